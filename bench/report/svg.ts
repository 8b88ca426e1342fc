// The little SVG that the charts need: text in, text out. Colours are classes, light and dark by the reader's
// preference, so that one file does for a README, too.

/** Escapes text for markup. */
export function escapeText(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

type Attributes = Record<string, string | number>;

/** One element; numbers are written to a tenth of a pixel. */
export function element(name: string, attributes: Attributes, ...children: string[]): string {
  const written = Object.entries(attributes)
    .map(
      ([key, value]) =>
        ` ${key}="${typeof value === 'number' ? Number(value.toFixed(1)) : escapeText(value)}"`,
    )
    .join('');
  return children.length === 0 ? `<${name}${written}/>` : `<${name}${written}>${children.join('')}</${name}>`;
}

/** Text at a point; `anchor` says which end of it lies there. */
export function label(
  x: number,
  y: number,
  text: string,
  className: string,
  anchor: 'start' | 'middle' | 'end' = 'start',
): string {
  return element('text', { x, y, class: className, 'text-anchor': anchor }, escapeText(text));
}

const light = {
  surface: '#fcfcfb',
  ink: '#0b0b0b',
  soft: '#52514e',
  faint: '#898781',
  grid: '#e1e0d9',
  track: '#ecebe5',
  bar: '#2a78d6',
  low: '#86b6ef',
  high: '#184f95',
  bare: '#898781',
};
const dark: typeof light = {
  surface: '#1a1a19',
  ink: '#ffffff',
  soft: '#c3c2b7',
  faint: '#898781',
  grid: '#2c2c2a',
  track: '#2c2c2a',
  bar: '#3987e5',
  low: '#1c5cab',
  high: '#9ec5f4',
  bare: '#898781',
};

function rules(colours: typeof light): string {
  const fills = ['ink', 'soft', 'faint', 'track', 'bar', 'low', 'high', 'bare', 'surface'] as const;
  const lines = ['grid', 'bar', 'low', 'high', 'bare', 'faint'] as const;
  return [
    ...fills.map((name) => `.${name}{fill:${colours[name]}}`),
    ...lines.map((name) => `.line-${name}{stroke:${colours[name]};fill:none}`),
    `.dot{stroke:${colours.surface};stroke-width:2}`,
  ].join('');
}

const TYPE = [
  'text{font-family:system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;font-size:13px}',
  '.title{font-size:16px;font-weight:600}',
  '.small{font-size:12px}',
  '.strong{font-weight:600}',
  '.data{stroke-width:2;stroke-linejoin:round;stroke-linecap:round}',
  '.dashed{stroke-dasharray:4 4}',
].join('');

/** A whole drawing with its own colours; `description` is read to those who do not see it. */
export function drawing(
  width: number,
  height: number,
  description: string,
  children: readonly string[],
): string {
  const style = `${TYPE}${rules(light)}@media(prefers-color-scheme:dark){${rules(dark)}}`;
  return `${element(
    'svg',
    {
      xmlns: 'http://www.w3.org/2000/svg',
      viewBox: `0 0 ${width} ${height}`,
      width: String(width),
      height: String(height),
      role: 'img',
      'aria-label': description,
    },
    `<style>${style}</style>`,
    element('rect', { width, height, rx: 8, class: 'surface' }),
    ...children,
  )}\n`;
}
