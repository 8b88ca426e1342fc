// The producer client for datagrams: packs frames into MoldUDP64 datagrams and sends them to one line or to
// two (A/B).
//
//   const lines = [{ host: '127.0.0.1', port: 9100 }];
//   const producer = await connectUdpProducer({ lines, session: 'RUN1' });
//   for (const frame of frames) if (!producer.send(frame)) await producer.ready();
//   await producer.close();            // last datagram, end of session
//
// Invariants
// - Frames have consecutive sequence numbers, those in dropped datagrams too.
// - A datagram is at most maxPayloadBytes long, unless one frame alone is longer: that one goes alone.
// - Datagrams are dropped on purpose only where dropEvery or dropRate says so; each line drops for itself,
//   and what all lines have dropped is known exactly (lostRanges). Then a datagram leaves when it is full or
//   at flush(), never by time, so that the same seed drops the same frames.
//
// Pacing: at most `burstDatagrams` leave before the event loop gets its turn, and no more than
// datagramsPerSecond, so that a receiver on the same host keeps up.

import type { udp } from 'bun';
import { RecorderError } from '../errors.ts';
import {
  BLOCK_PREFIX_BYTES,
  END_OF_SESSION,
  HEADER_BYTES,
  MAX_DATAGRAM_BYTES,
  MAX_MESSAGES,
  moldSessionField,
  writeMoldBlock,
  writeMoldHeader,
} from '../net/mold-udp64.ts';
import type { SequenceRange } from '../net/sequence-ranges.ts';

export interface UdpProducerOptions {
  /** One line, or two (A and B) that both get every datagram */
  lines: readonly { host: string; port: number }[];
  /** At most 10 ASCII characters */
  session: string;
  /** Sequence number of the first frame, default 1 */
  firstSeq?: number;
  /** Longest datagram, default 1,400 bytes: fits an Ethernet frame with room for tunnels */
  maxPayloadBytes?: number;
  /** Heartbeat after this much silence, default 1 s; 0: none */
  heartbeatMs?: number;
  /** Default 60,000 */
  datagramsPerSecond?: number;
  /** Drops each n-th datagram of a line, for tests */
  dropEvery?: number;
  /** Drops this share of a line's datagrams at random, for tests */
  dropRate?: number;
  /** Seed of dropRate, default 1 */
  seed?: number;
  /** Address of the interface that multicast leaves through */
  interface?: string;
}

export interface UdpProducerStats {
  /** Frames taken by send() */
  sent: number;
  /** Datagrams with frames, on all lines; dropped ones are not counted */
  datagrams: number;
  droppedDatagrams: number;
  heartbeats: number;
  bytes: number;
}

const DEFAULT_PAYLOAD_BYTES = 1400;
const DEFAULT_DATAGRAMS_PER_SECOND = 60_000;
const DEFAULT_HEARTBEAT_MS = 1000;
const BURST_DATAGRAMS = 64;
/** End of session is sent more than once: a datagram may get lost. */
const END_REPEATS = 3;

/** Opens a socket for sending; rejects with the system's error. */
export async function connectUdpProducer(options: UdpProducerOptions): Promise<UdpProducer> {
  const multicastInterface = options.interface;
  // Answers to datagrams (an ICMP "port unreachable") show as errors; a sender of datagrams does not mind.
  const isIpv6 = options.lines.some(({ host }) => host.includes(':'));
  const hostname = isIpv6 ? '::' : '0.0.0.0';
  const socket = await Bun.udpSocket({ hostname, socket: { error: () => {} } });
  if (multicastInterface !== undefined) socket.setMulticastInterface(multicastInterface);
  return new UdpProducer(socket, options);
}

export class UdpProducer {
  readonly stats: UdpProducerStats = { sent: 0, datagrams: 0, droppedDatagrams: 0, heartbeats: 0, bytes: 0 };
  readonly #socket: udp.Socket<'buffer'>;
  readonly #options: UdpProducerOptions;
  readonly #field: Uint8Array;
  readonly #maxPayloadBytes: number;
  readonly #msPerDatagram: number;
  readonly #lost: SequenceRange[] = [];
  readonly #lineCounts: number[];
  readonly #dropsOnPurpose: boolean;
  readonly #heartbeat: ReturnType<typeof setInterval> | null;
  #packet = new Uint8Array(MAX_DATAGRAM_BYTES);
  #sizeBytes = HEADER_BYTES;
  #count = 0;
  #firstSeq: number;
  #randomState: number;
  #burst = 0;
  /** When the next datagram may leave, by the pace. */
  #paceAtMs = performance.now();
  #lastSentMs = performance.now();
  #flushTimer: ReturnType<typeof setTimeout> | null = null;
  #isClosed = false;

  /** Use connectUdpProducer. Throws a RangeError for a session that is no MoldUDP64 session. */
  constructor(socket: udp.Socket<'buffer'>, options: UdpProducerOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#field = moldSessionField(options.session);
    this.#firstSeq = options.firstSeq ?? 1;
    this.#maxPayloadBytes = options.maxPayloadBytes ?? DEFAULT_PAYLOAD_BYTES;
    this.#msPerDatagram = 1000 / (options.datagramsPerSecond ?? DEFAULT_DATAGRAMS_PER_SECOND);
    this.#randomState = options.seed ?? 1;
    this.#dropsOnPurpose = (options.dropEvery ?? 0) > 0 || (options.dropRate ?? 0) > 0;
    this.#lineCounts = options.lines.map(() => 0);
    const heartbeatMs = options.heartbeatMs ?? DEFAULT_HEARTBEAT_MS;
    this.#heartbeat = heartbeatMs === 0 ? null : setInterval(() => this.#beat(heartbeatMs), heartbeatMs);
  }

  /** Sequence number that the next frame gets. */
  get nextSeq(): number {
    return this.#firstSeq + this.#count;
  }

  /** Sequence numbers that no line has sent, as ranges. */
  get lostRanges(): readonly SequenceRange[] {
    return this.#lost;
  }

  /**
   * Takes a copy of `frame`. False: await ready() before the next one, the pace or the socket's buffer
   * wants a pause. Throws a RecorderError for a frame that fits into no datagram.
   */
  send(frame: Uint8Array): boolean {
    const blockBytes = BLOCK_PREFIX_BYTES + frame.byteLength;
    if (HEADER_BYTES + blockBytes > MAX_DATAGRAM_BYTES) {
      const room = MAX_DATAGRAM_BYTES - HEADER_BYTES - BLOCK_PREFIX_BYTES;
      throw new RecorderError(
        'frame_too_large_for_udp',
        `a frame of ${frame.byteLength} bytes is above ${room}`,
        {
          hint: 'send large frames through the Unix socket',
        },
      );
    }
    if (this.#count > 0 && this.#sizeBytes + blockBytes > this.#maxPayloadBytes) this.#flushPacket();
    this.#sizeBytes = writeMoldBlock(this.#packet, this.#sizeBytes, frame);
    this.#count++;
    this.stats.sent++;
    if (this.#sizeBytes >= this.#maxPayloadBytes || this.#count === MAX_MESSAGES) this.#flushPacket();
    else if (!this.#dropsOnPurpose) this.#flushTimer ??= setTimeout(() => this.#flushPacket(), 0);
    return this.#burst < BURST_DATAGRAMS;
  }

  /** Resolves when the next frame may be sent. */
  async ready(): Promise<void> {
    this.#burst = 0;
    const waitMs = this.#paceAtMs - performance.now();
    await (waitMs >= 1 ? Bun.sleep(waitMs) : new Promise<void>((resolve) => setImmediate(resolve)));
    // A pause is not made up for: that would be the burst that pacing is there to avoid.
    this.#paceAtMs = Math.max(this.#paceAtMs, performance.now() - 1);
  }

  /** Sends the datagram that is being filled. */
  flush(): void {
    this.#flushPacket();
  }

  /** Sends a heartbeat: the receiver learns which numbers exist. */
  sendHeartbeat(): void {
    this.#flushPacket();
    this.#sendControl(0);
    this.stats.heartbeats++;
  }

  /** Sends what is left and, unless `endSession` is false, the end of the session; then closes the socket. */
  async close(endSession = true): Promise<void> {
    if (this.#isClosed) return;
    this.#flushPacket();
    this.#isClosed = true;
    if (this.#heartbeat !== null) clearInterval(this.#heartbeat);
    for (let i = 0; endSession && i < END_REPEATS; i++) {
      this.#sendControl(END_OF_SESSION);
      await Bun.sleep(1);
    }
    this.#socket.close();
  }

  #flushPacket(): void {
    if (this.#flushTimer !== null) clearTimeout(this.#flushTimer);
    this.#flushTimer = null;
    if (this.#count === 0 || this.#isClosed) return;
    writeMoldHeader(this.#packet, this.#field, this.#firstSeq, this.#count);
    const bytes = this.#packet.subarray(0, this.#sizeBytes);
    let isLost = true;
    for (let line = 0; line < this.#options.lines.length; line++) {
      if (this.#dropsNext(line)) this.stats.droppedDatagrams++;
      else {
        isLost = false;
        this.#transmit(bytes, line);
        this.stats.datagrams++;
        this.stats.bytes += bytes.byteLength;
      }
    }
    if (isLost) this.#noteLost(this.#firstSeq, this.#firstSeq + this.#count - 1);
    this.#firstSeq += this.#count;
    this.#count = 0;
    this.#sizeBytes = HEADER_BYTES;
    this.#burst++;
    this.#paceAtMs += this.#msPerDatagram;
    this.#lastSentMs = performance.now();
  }

  /**
   * Datagrams that the socket's buffer does not take are sent again at once: sending must not add losses of
   * its own.
   */
  #transmit(bytes: Uint8Array, line: number): void {
    const { host, port } = this.#options.lines[line]!;
    for (let attempt = 0; attempt < 1000; attempt++) {
      try {
        if (this.#socket.send(bytes, port, host)) return;
      } catch (error) {
        // What an earlier datagram met (ICMP "port unreachable"); this one was not sent for it.
        if ((error as { code?: string }).code !== 'ECONNREFUSED') throw error;
        continue;
      }
      Bun.sleepSync(0.1);
    }
    throw new RecorderError('udp_send_blocked', `the system does not take datagrams for ${host}:${port}`);
  }

  #sendControl(count: number): void {
    const bytes = new Uint8Array(HEADER_BYTES);
    writeMoldHeader(bytes, this.#field, this.nextSeq, count);
    for (let line = 0; line < this.#options.lines.length; line++) this.#transmit(bytes, line);
    this.#lastSentMs = performance.now();
  }

  #beat(heartbeatMs: number): void {
    if (performance.now() - this.#lastSentMs < heartbeatMs / 2) return;
    this.sendHeartbeat();
  }

  #dropsNext(line: number): boolean {
    const number = this.#lineCounts[line]! + 1;
    this.#lineCounts[line] = number;
    const { dropEvery = 0, dropRate = 0 } = this.#options;
    if (dropEvery > 0 && number % dropEvery === 0) return true;
    return dropRate > 0 && this.#random() < dropRate;
  }

  /** mulberry32: small, seeded, good enough to drop datagrams. */
  #random(): number {
    this.#randomState = (this.#randomState + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#randomState ^ (this.#randomState >>> 15), 1 | this.#randomState);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  }

  #noteLost(first: number, last: number): void {
    const previous = this.#lost.at(-1);
    if (previous !== undefined && previous.last + 1 === first) previous.last = last;
    else this.#lost.push({ first, last });
  }
}
