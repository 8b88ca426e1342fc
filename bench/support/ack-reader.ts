// Reads the recorder's answers from a blocking socket: Welcome, Acks; anything else ends the measurement.

import { type ControlMessage, decodeControl } from '../../src/net/control-messages.ts';
import { readSome } from './posix.ts';

export interface AckReader {
  /** Highest sequence number that is acknowledged. */
  readonly durableSeq: number;
  /** Waits for the Welcome. */
  welcome(): void;
  /** Reads once, blocking, and takes what came. */
  read(): void;
  /** Waits until `seq` is acknowledged. */
  waitFor(seq: number): void;
}

export function createAckReader(fd: number): AckReader {
  const bytes = new Uint8Array(64 * 1024);
  const view = new DataView(bytes.buffer);
  let filled = 0;
  let welcomed = false;
  let durableSeq = 0;

  const take = (message: ControlMessage) => {
    if (message.kind === 'goodbye') throw new Error(`the recorder said goodbye: ${message.reason}`);
    if (message.kind === 'welcome') welcomed = true;
    if (message.kind === 'ack') durableSeq = message.durableSeq;
  };
  const read = () => {
    const count = readSome(fd, bytes.subarray(filled));
    if (count === 0) throw new Error('the recorder closed the connection');
    filled += count;
    let at = 0;
    while (filled - at >= 4 && filled - at >= 4 + view.getUint32(at, true)) {
      const end = at + 4 + view.getUint32(at, true);
      const message = decodeControl(bytes, view, at + 4, end);
      if (message.kind === 'fault') throw new Error(`not a control message: ${message.reason}`);
      take(message);
      at = end;
    }
    bytes.copyWithin(0, at, filled);
    filled -= at;
  };
  return {
    get durableSeq() {
      return durableSeq;
    },
    read,
    welcome() {
      while (!welcomed) read();
    },
    waitFor(seq) {
      while (durableSeq < seq) read();
    },
  };
}
