import { expect, test } from 'bun:test';
import { SendBuffer } from '../../src/feed/send-buffer.ts';
import { seededRandom } from '../support/random.ts';

test('a chunk that was written to its end before the next one began does not hold the next one up', () => {
  const buffer = new SendBuffer(1);
  const frame = new Uint8Array(100_000);
  buffer.append(frame);
  buffer.append(frame);
  buffer.written(buffer.pending().byteLength);
  expect(buffer.isWritten).toBe(true);
  buffer.append(frame);
  expect(buffer.isWritten).toBe(false);
  expect(buffer.pending().byteLength).toBe(100_004);
});

test('whatever the sizes of writes and acks, every byte is offered once and in order', () => {
  const random = seededRandom('send-buffer');
  const buffer = new SendBuffer(1);
  let appended = 0;
  let written = 0;
  let next = 0;
  const limits: number[] = [];
  while (buffer.nextSeq < 3000) {
    for (let i = random.int(0, 40); i > 0; i--) {
      const frame = new Uint8Array(random.int(8, 4000)).fill(buffer.nextSeq & 0xff);
      appended += frame.byteLength + 4;
      limits.push(appended);
      buffer.append(frame);
    }
    for (let rest = buffer.pending(); rest.byteLength > 0; rest = buffer.pending()) {
      const taken = random.int(0, 3) === 0 ? random.int(1, rest.byteLength) : rest.byteLength;
      written += taken;
      buffer.written(taken);
      if (taken < rest.byteLength) break;
    }
    while (next < limits.length && limits[next]! <= written) next++;
    if (random.int(0, 2) === 0) buffer.release(random.int(0, next));
  }
  for (let rest = buffer.pending(); rest.byteLength > 0; rest = buffer.pending()) {
    written += rest.byteLength;
    buffer.written(rest.byteLength);
  }
  expect(written).toBe(appended);
  buffer.release(limits.length);
  expect(buffer.sizeBytes).toBe(0);
});
