import { expect, test } from 'bun:test';
import { SendBuffer } from '../../src/feed/send-buffer.ts';
import { prefixed, testFrame } from '../net/recording-sink.ts';
import { seededRandom } from '../support/random.ts';

test('random appends, writes, acks and reconnects write exactly the frames from the last ack', () => {
  const random = seededRandom('send-buffer');
  for (let round = 0; round < 30; round++) {
    const buffer = new SendBuffer(1);
    const frames: Uint8Array[] = [];
    // What the peer has on this connection: bytes since frame `connectionSeq`.
    let connectionSeq = 1;
    let written: Uint8Array[] = [];
    let acked = 0;
    const receivedWhole = (): number => {
      let bytes = written.reduce((sum, part) => sum + part.length, 0);
      let seq = connectionSeq;
      while (seq <= frames.length && bytes >= 4 + frames[seq - 1]!.length)
        bytes -= 4 + frames[seq++ - 1]!.length;
      return seq - 1;
    };
    for (let step = 0; step < 200; step++) {
      const action = random.int(0, 9);
      if (action < 5) {
        const frame = testFrame(frames.length + 1, random.int(8, random.int(0, 9) === 0 ? 300_000 : 30_000));
        frames.push(frame);
        buffer.append(frame);
      } else if (action < 8) {
        const pending = buffer.pending();
        const size = random.int(0, pending.length);
        written.push(pending.slice(0, size));
        buffer.written(size);
      } else if (action === 8) {
        acked = random.int(acked, Math.max(acked, receivedWhole()));
        buffer.release(acked);
      } else {
        const expected = prefixed(...frames.slice(connectionSeq - 1));
        const sent = Buffer.concat(written);
        expect(Bun.hash(sent)).toBe(Bun.hash(expected.subarray(0, sent.length)));
        expect(buffer.cursorSeq()).toBe(receivedWhole() + 1);
        connectionSeq = acked + 1;
        written = [];
        buffer.rewind(connectionSeq);
      }
    }
    while (!buffer.isWritten) {
      const pending = buffer.pending();
      written.push(pending.slice());
      buffer.written(pending.length);
    }
    const everything = prefixed(...frames.slice(connectionSeq - 1));
    expect(Bun.hash(Buffer.concat(written))).toBe(Bun.hash(everything));
    buffer.release(frames.length);
    expect(buffer.isEmpty).toBe(true);
    expect(buffer.sizeBytes).toBe(0);
  }
});

test('releaseWritten lets go of whole written frames only', () => {
  const buffer = new SendBuffer(1);
  for (let number = 1; number <= 3; number++) buffer.append(testFrame(number, 200_000));
  const pending = buffer.pending();
  buffer.written(pending.length);
  buffer.releaseWritten();
  expect(buffer.sizeBytes).toBe(2 * 200_004);
  buffer.written(10);
  buffer.releaseWritten();
  expect(buffer.cursorSeq()).toBe(2);
  expect(buffer.sizeBytes).toBe(2 * 200_004);
});
