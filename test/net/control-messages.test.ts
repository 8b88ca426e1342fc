import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type ControlFault,
  type ControlMessage,
  decodeControl,
  encodeAck,
  encodeGoodbye,
  encodeHello,
  encodeWelcome,
  isControl,
} from '../../src/net/control-messages.ts';
import { seededRandom } from '../support/random.ts';

const SCHEMA = join(import.meta.dir, '../../schemas/control.fbs');
const hasFlatc = Bun.which('flatc') !== null;
if (!hasFlatc)
  process.stderr.write('SKIPPED: control messages against flatc (flatbuffers-compiler is missing)\n');

/** Decodes a size-prefixed message that lies at an odd place in a larger buffer. */
function decode(message: Uint8Array): ControlMessage | ControlFault {
  const bytes = Buffer.concat([Uint8Array.of(0xff, 0xff, 0xff), message.subarray(4), Uint8Array.of(0xff)]);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return decodeControl(bytes, view, 3, bytes.length - 1);
}

describe('control messages', () => {
  test('come back as they were sent', () => {
    expect(decode(encodeHello('engine', 'run-1', 42))).toEqual({
      kind: 'hello',
      version: 1,
      source: 'engine',
      session: 'run-1',
      nextSeq: 42,
    });
    expect(decode(encodeHello('é', 'ß', 1))).toMatchObject({ source: 'é', session: 'ß', nextSeq: 1 });
    expect(decode(encodeHello('a', 'b', Number.MAX_SAFE_INTEGER))).toMatchObject({ nextSeq: 2 ** 53 - 1 });
    expect(decode(encodeWelcome(7, 1000))).toEqual({
      kind: 'welcome',
      version: 1,
      durableSeq: 7,
      maxFrameBytes: 1000,
    });
    expect(decode(encodeAck(0))).toEqual({ kind: 'ack', durableSeq: 0 });
    expect(decode(encodeAck(2 ** 40))).toEqual({ kind: 'ack', durableSeq: 2 ** 40 });
    expect(decode(encodeGoodbye('bye'))).toEqual({ kind: 'goodbye', reason: 'bye' });
  });

  test('a Hello is refused with a reason', () => {
    const long = 'x'.repeat(256);
    for (const [message, reason] of [
      [encodeHello('', 's', 1), 'source must be'],
      [encodeHello('s', '', 1), 'session must be'],
      [encodeHello(long, 's', 1), 'source must be'],
      [encodeHello('s', 'é'.repeat(128), 1), 'session must be'],
      [encodeHello('s', 't', 0), 'next_seq'],
    ] as const) {
      const decoded = decode(message);
      expect(decoded.kind).toBe('fault');
      expect((decoded as ControlFault).reason).toContain(reason);
    }
    const largeSeq = encodeHello('s', 't', 2 ** 52);
    largeSeq[largeSeq.indexOf(0x10, 8)] = 0x20;
    expect(decode(largeSeq).kind).toBe('fault');
  });

  test('no truncation and no single-byte mutation is read out of bounds', () => {
    for (const message of [
      encodeHello('engine', 'run', 9),
      encodeWelcome(3, 4),
      encodeAck(5),
      encodeGoodbye('x'),
    ]) {
      for (let length = 4; length < message.length; length++) decode(message.subarray(0, length));
      for (let at = 4; at < message.length; at++) {
        for (let value = 0; value < 256; value++) {
          const mutated = message.slice();
          mutated[at] = value;
          decode(mutated);
        }
      }
    }
  });

  test('random bytes behind an identifier are read without a fault of ours', () => {
    const random = seededRandom('control-messages');
    for (let round = 0; round < 20_000; round++) {
      const message = random.bytes(random.int(12, 80));
      message.set(Buffer.from(random.pick(['HELO', 'WLCM', 'ACKN', 'GBYE'])), 8);
      message.set(Uint8Array.of(random.int(0, 60), 0, 0, 0), 4);
      expect(isControl(new DataView(message.buffer), 4)).toBe(true);
      decode(message);
    }
  });

  describe.skipIf(!hasFlatc)('against flatc', () => {
    let folder = '';
    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'recorder-control-'));
    });
    afterAll(() => rmSync(folder, { recursive: true }));

    const flatc = (...args: string[]): void => {
      const run = Bun.spawnSync(['flatc', ...args], { cwd: folder });
      if (run.exitCode !== 0) throw new Error(`flatc: ${run.stderr.toString()}${run.stdout.toString()}`);
    };

    test.each([
      ['Hello', encodeHello('engine é', 'run-1', 42), { source: 'engine é', session: 'run-1', next_seq: 42 }],
      ['Hello', encodeHello('a', 'b', 1), { source: 'a', session: 'b' }],
      ['Welcome', encodeWelcome(99, 1024), { durable_seq: 99, max_frame_bytes: 1024 }],
      ['Ack', encodeAck(2 ** 45), { durable_seq: 2 ** 45 }],
      ['Goodbye', encodeGoodbye('why "so"'), { reason: 'why "so"' }],
    ])('flatc reads our %s', (table, message, expected) => {
      writeFileSync(join(folder, 'ours.bin'), message);
      const root = `hft.control.${table}`;
      flatc(
        '-t',
        '--strict-json',
        '--size-prefixed',
        '--raw-binary',
        '--root-type',
        root,
        SCHEMA,
        '--',
        'ours.bin',
      );
      expect(JSON.parse(readFileSync(join(folder, 'ours.json'), 'utf8'))).toEqual(expected);
    });

    test.each([
      [
        'Hello',
        'HELO',
        { source: 'engine', session: 'é', next_seq: 7 },
        { source: 'engine', session: 'é', nextSeq: 7 },
      ],
      ['Hello', 'HELO', { source: 'a', session: 'b' }, { version: 1, nextSeq: 1 }],
      ['Welcome', 'WLCM', { durable_seq: 5, max_frame_bytes: 6 }, { durableSeq: 5, maxFrameBytes: 6 }],
      ['Ack', 'ACKN', { durable_seq: 1234567890123 }, { durableSeq: 1234567890123 }],
      ['Goodbye', 'GBYE', { reason: 'x' }, { kind: 'goodbye', reason: 'x' }],
    ])("we read flatc's %s", (table, identifier, json, expected) => {
      const root = `root_type ${table};\nfile_identifier "${identifier}";\n`;
      const schema = `${readFileSync(SCHEMA, 'utf8')}\n${root}`;
      writeFileSync(join(folder, 'one.fbs'), schema);
      writeFileSync(join(folder, 'theirs.json'), JSON.stringify(json));
      flatc('-b', '--size-prefixed', 'one.fbs', 'theirs.json');
      expect(decode(readFileSync(join(folder, 'theirs.bin')))).toMatchObject(expected);
    });
  });
});
