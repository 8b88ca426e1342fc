// Small help for the DOM. Text is always set as text: nothing that was recorded is ever read as HTML.

/**
 * The element with this id.
 * @param {string} id
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`no element #${id}`);
  return element;
}

/**
 * A new element with attributes and children; texts become text nodes.
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/**
 * Sets a text where it has changed, so that selections and screen readers are left alone.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Replaces the children where `key` has changed since the last call for this element.
 * @param {Element} element
 * @param {string} key
 * @param {() => (Node | string)[]} children
 */
export function setChildren(element, key, children) {
  const keyed = /** @type {Element & { shownKey?: string }} */ (element);
  if (keyed.shownKey === key) return;
  keyed.shownKey = key;
  element.replaceChildren(...children());
}

/**
 * A table with a head and rows of cells.
 * @param {Element} table
 * @param {readonly { text: string, isNumber?: boolean, title?: string }[]} head
 * @param {readonly (readonly (string | Node)[])[]} rows
 */
export function fillTable(table, head, rows) {
  const headCells = head.map(({ text, isNumber, title }) =>
    make('th', { scope: 'col', class: isNumber ? 'number' : '', ...(title ? { title } : {}) }, text),
  );
  const body = rows.map((row) =>
    make(
      'tr',
      {},
      ...row.map((cell, i) => {
        const kind = head[i]?.isNumber ? 'number' : '';
        return i === 0 ? make('th', { scope: 'row', class: kind }, cell) : make('td', { class: kind }, cell);
      }),
    ),
  );
  table.replaceChildren(make('thead', {}, make('tr', {}, ...headCells)), make('tbody', {}, ...body));
}

/**
 * A command to type, with a button that copies it.
 * @param {string} command
 */
export function commandLine(command) {
  const button = make('button', { type: 'button', class: 'copy', 'aria-label': `Copy: ${command}` }, 'Copy');
  button.addEventListener('click', async () => {
    const isCopied = await copy(command);
    setText(button, isCopied ? 'Copied' : 'Ctrl+C');
    setTimeout(() => setText(button, 'Copy'), 1500);
  });
  const code = make('code', {}, command);
  return make(
    'div',
    { class: 'command' },
    make('span', { class: 'prompt', 'aria-hidden': 'true' }, '$'),
    code,
    button,
  );
}

/**
 * @param {string} text
 */
async function copy(text) {
  try {
    // Absent on a page that came over plain HTTP from another host.
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
