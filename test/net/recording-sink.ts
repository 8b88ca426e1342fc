import type { FrameSink, GapEvent, MalformedEvent } from '../../src/net/frame-sink.ts';

export interface SeenFrame {
  streamId: number;
  seq: number;
  bytes: Uint8Array;
}

export type SeenMalformed = Omit<MalformedEvent, 'start' | 'end'>;

/** A FrameSink that keeps copies of everything and asserts the order of calls. */
export class RecordingSink implements FrameSink {
  readonly frames: SeenFrame[] = [];
  readonly refused: SeenMalformed[] = [];
  readonly gaps: GapEvent[] = [];
  chunks = 0;
  /** Answer of chunkEnd: the sender is to be held back. */
  holds = false;
  #inChunk = false;

  chunkStart(): void {
    if (this.#inChunk) throw new Error('chunkStart inside a chunk');
    this.#inChunk = true;
    this.chunks++;
  }

  frame(
    streamId: number,
    seqLow: number,
    seqHigh: number,
    bytes: Uint8Array,
    view: DataView,
    start: number,
    end: number,
  ): void {
    if (!this.#inChunk) throw new Error('frame outside a chunk');
    if (view.buffer !== bytes.buffer || view.byteOffset !== bytes.byteOffset) throw new Error('view differs');
    const seq = seqHigh * 2 ** 32 + seqLow;
    this.frames.push({ streamId, seq, bytes: bytes.slice(start, end) });
  }

  malformed(event: MalformedEvent): void {
    if (!this.#inChunk) throw new Error('malformed outside a chunk');
    const { start, end, ...rest } = event;
    this.refused.push({ ...rest, bytes: event.bytes.slice(start, end) });
  }

  gap(event: GapEvent): void {
    this.gaps.push(event);
  }

  chunkEnd(): boolean {
    if (!this.#inChunk) throw new Error('chunkEnd without chunkStart');
    this.#inChunk = false;
    return this.holds;
  }

  seqs(): number[] {
    return this.frames.map(({ seq }) => seq);
  }
}

/** A frame of `sizeBytes` (at least 8) that says which one it is; no control message. */
export function testFrame(number: number, sizeBytes = 24): Uint8Array {
  const bytes = new Uint8Array(sizeBytes).fill(number & 0xff);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, number, true);
  bytes.set([0x54, 0x45, 0x53, 0x54], 4);
  return bytes;
}

/** Frames with their size prefixes, one after another. */
export function prefixed(...frames: Uint8Array[]): Uint8Array {
  return Buffer.concat(frames.map((frame) => Buffer.concat([prefix(frame.byteLength), frame])));
}

/** A length prefix. */
export function prefix(sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, sizeBytes, true);
  return bytes;
}

/** Waits until `isMet`, at most `timeoutMs`; throws with `what` otherwise. */
export async function until(isMet: () => boolean, what: string, timeoutMs = 5000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!isMet()) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await Bun.sleep(2);
  }
}
