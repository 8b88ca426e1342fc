import { describe, expect, test } from 'bun:test';
import {
  END_OF_SESSION,
  HEADER_BYTES,
  type MoldHeader,
  moldSessionField,
  readMoldHeader,
  readMoldSession,
  writeMoldBlock,
  writeMoldHeader,
} from '../../src/net/mold-udp64.ts';

const headerOf = (packet: Uint8Array, header: MoldHeader) => {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  return readMoldHeader(view, 0, packet.length, header);
};

describe('MoldUDP64', () => {
  // Written out by hand from the specification: session "ITCH50", sequence 258, two messages "ab" and "xyz".
  const golden = Buffer.from(
    `49544348353020202020${'0000000000000102'}${'0002'}${'0002'}6162${'0003'}78797a`,
    'hex',
  );

  test('a datagram has the bytes of the specification', () => {
    const packet = new Uint8Array(golden.length);
    writeMoldHeader(packet, moldSessionField('ITCH50'), 258, 2);
    const next = writeMoldBlock(packet, HEADER_BYTES, Buffer.from('ab'));
    expect(writeMoldBlock(packet, next, Buffer.from('xyz'))).toBe(golden.length);
    expect(Buffer.from(packet)).toEqual(golden);
  });

  test('a header is read from the bytes of the specification', () => {
    const header: MoldHeader = { seq: 0, count: 0, endOfSession: true };
    expect(headerOf(golden, header)).toBeNull();
    expect(header).toEqual({ seq: 258, count: 2, endOfSession: false });
    expect(readMoldSession(golden)).toBe('ITCH50');
  });

  test('count 0 is a heartbeat and 0xFFFF the end of the session', () => {
    const packet = new Uint8Array(HEADER_BYTES);
    const header: MoldHeader = { seq: 0, count: 9, endOfSession: true };
    writeMoldHeader(packet, moldSessionField('S'), 2 ** 53 - 1, 0);
    expect(headerOf(packet, header)).toBeNull();
    expect(header).toEqual({ seq: 2 ** 53 - 1, count: 0, endOfSession: false });
    writeMoldHeader(packet, moldSessionField('S'), 7, END_OF_SESSION);
    expect(headerOf(packet, header)).toBeNull();
    expect(header).toEqual({ seq: 7, count: 0, endOfSession: true });
  });

  test('headers that cannot be are refused', () => {
    const header: MoldHeader = { seq: 0, count: 0, endOfSession: false };
    for (let length = 0; length < HEADER_BYTES; length++) {
      expect(headerOf(golden.subarray(0, length), header)).toBe('short_packet');
    }
    const packet = new Uint8Array(HEADER_BYTES);
    writeMoldHeader(packet, moldSessionField('S'), 0, 1);
    expect(headerOf(packet, header)).toBe('bad_sequence');
    writeMoldHeader(packet, moldSessionField('S'), 2 ** 53 - 2, 5);
    expect(headerOf(packet, header)).toBe('bad_sequence');
    packet.fill(0xff, 10, 18);
    expect(headerOf(packet, header)).toBe('bad_sequence');
  });

  test('session fields are filled with spaces; spaces and NULs at the end do not count', () => {
    expect(readMoldSession(moldSessionField(''))).toBe('');
    expect(readMoldSession(moldSessionField('0123456789'))).toBe('0123456789');
    expect(readMoldSession(Buffer.from(' A B\0 \0\0\0\0'))).toBe(' A B');
    expect(readMoldSession(Uint8Array.of(0xff, 0x80, 32, 32, 32, 32, 32, 32, 32, 32))).toBe('ÿ\u0080');
    expect(() => moldSessionField('01234567890')).toThrow(RangeError);
    expect(() => moldSessionField('é')).toThrow(RangeError);
  });
});
