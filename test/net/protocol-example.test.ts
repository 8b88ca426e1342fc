// The worked example of docs/PROTOCOL.md is read from the document and held against the program.

import { expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeControl, encodeAck, encodeHello, encodeWelcome } from '../../src/net/control-messages.ts';
import { FrameReader } from '../../src/net/frame-reader.ts';

const document = readFileSync(join(import.meta.dir, '../../docs/PROTOCOL.md'), 'utf8');
const example = document.slice(document.indexOf('### 2.3'), document.indexOf('## 3.'));

/** The hexadecimal bytes at the beginning of each indented line, one block for each run of indented lines. */
function hexBlocks(text: string): Uint8Array[] {
  const blocks: Uint8Array[] = [];
  for (const paragraph of text.split(/\n\n/)) {
    if (!paragraph.startsWith('    ')) continue;
    const hex = paragraph
      .split('\n')
      .map((line) => /^ {4}((?:[0-9a-f]{2} ?)*)/.exec(line)![1]!)
      .join('');
    blocks.push(Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex')));
  }
  return blocks;
}

const [hello, welcome, span, ack] = hexBlocks(example) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];

test('the control messages of the example are what the program writes', () => {
  expect(Buffer.from(hello).toString('hex')).toBe(
    Buffer.from(encodeHello('engine', 'run-1', 1)).toString('hex'),
  );
  expect(Buffer.from(welcome).toString('hex')).toBe(Buffer.from(encodeWelcome(0, 1_048_576)).toString('hex'));
  expect(Buffer.from(ack).toString('hex')).toBe(Buffer.from(encodeAck(1)).toString('hex'));
});

test('the frames of the example are read as the document says', () => {
  const seen: unknown[] = [];
  new FrameReader({
    frame: (bytes, view, start, end) => {
      const identifier = Buffer.from(bytes.subarray(start + 4, start + 8)).toString();
      seen.push(identifier === 'LATN' ? end - start : decodeControl(bytes, view, start, end));
    },
    malformed: (reason) => seen.push(reason),
  }).push(Buffer.concat([hello, welcome, span, ack]));
  expect(seen).toEqual([
    { kind: 'hello', version: 1, source: 'engine', session: 'run-1', nextSeq: 1 },
    { kind: 'welcome', version: 1, durableSeq: 0, maxFrameBytes: 1_048_576 },
    68,
    { kind: 'ack', durableSeq: 1 },
  ]);
  expect(new DataView(span.buffer).getBigInt64(40, true)).toBe(1n);
});
