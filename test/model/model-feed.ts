// A UDP feed over two lines: datagrams are lost, late, doubled and out of order on each line for itself.
// Nobody sends anything again. The recorder's side is the real sequencer; between them are no sockets.

import { FeedSequencer } from '../../src/net/feed-sequencer.ts';
import type { FrameSink } from '../../src/net/frame-sink.ts';
import {
  BLOCK_PREFIX_BYTES,
  HEADER_BYTES,
  moldSessionField,
  writeMoldBlock,
  writeMoldHeader,
} from '../../src/net/mold-udp64.ts';
import type { StreamTable } from '../../src/net/session.ts';
import type { SeededRandom } from '../support/random.ts';
import { takeDatagram } from '../support/take-datagram.ts';
import { madeFrame, type SentFrame } from './model-producer.ts';

export const FEED_SOURCE = 'udp';
/** After this time a gap is reported. */
const GAP_TIMEOUT_MS = 15;
const LINES = ['A', 'B'] as const;

const take = (sequencer: FeedSequencer, packet: Uint8Array, line: string): void =>
  takeDatagram(sequencer, packet, line, performance.now());

interface Datagram {
  line: (typeof LINES)[number];
  bytes: Uint8Array;
}

export class ModelFeed {
  readonly source = FEED_SOURCE;
  readonly session = 'feed';
  readonly frames: SentFrame[] = [];
  readonly #random: SeededRandom;
  #sent = 0;
  /** On their way. */
  #late: Datagram[] = [];

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  /** The sequencer of a recorder that starts; its timer belongs to the process that runs now. */
  open(streams: StreamTable, sink: FrameSink): FeedSequencer {
    const sequencer = new FeedSequencer(FEED_SOURCE, streams, sink, 4096);
    setInterval(() => sequencer.tick(performance.now(), GAP_TIMEOUT_MS), 5);
    return sequencer;
  }

  make(count: number): void {
    for (let made = 0; made < count; made++) this.frames.push(madeFrame(this.#random));
  }

  /** Sends what is new, and some of what is late; without a recorder it goes nowhere. */
  send(sequencer: FeedSequencer | null): void {
    const random = this.#random;
    const now: Datagram[] = [];
    while (this.#sent < this.frames.length) {
      const count = Math.min(random.int(1, 4), this.frames.length - this.#sent);
      const bytes = this.#datagram(this.#sent + 1, this.frames.slice(this.#sent, this.#sent + count));
      this.#sent += count;
      for (const line of LINES) {
        const fate = random.int(0, 9);
        if (fate < 6) now.push({ line, bytes });
        else if (fate < 8) this.#late.push({ line, bytes });
        if (fate === 0) this.#late.push({ line, bytes });
      }
    }
    const [arriving, late] = [[] as Datagram[], [] as Datagram[]];
    for (const datagram of this.#late) (random.int(0, 1) === 0 ? arriving : late).push(datagram);
    this.#late = late;
    if (sequencer === null) return;
    for (const { line, bytes } of [...now, ...arriving]) take(sequencer, bytes, line);
  }

  /** All that is late comes, and a heartbeat says how many there are. */
  finish(sequencer: FeedSequencer): void {
    this.send(sequencer);
    for (const { line, bytes } of this.#late) take(sequencer, bytes, line);
    this.#late = [];
    take(sequencer, this.#datagram(this.frames.length + 1, []), 'A');
  }

  #datagram(firstSeq: number, frames: readonly SentFrame[]): Uint8Array {
    // Without the size prefix of the stream.
    const messages = frames.map(({ bytes }) => bytes.subarray(4));
    const sizes = messages.map(({ length }) => BLOCK_PREFIX_BYTES + length);
    const bytes = new Uint8Array(sizes.reduce((sum, size) => sum + size, HEADER_BYTES));
    writeMoldHeader(bytes, moldSessionField(this.session), firstSeq, frames.length);
    let position = HEADER_BYTES;
    for (const message of messages) position = writeMoldBlock(bytes, position, message);
    return bytes;
  }
}
