import type { FeedSequencer } from '../../src/net/feed-sequencer.ts';

/** Bytes before and behind the datagram, as its neighbours in the receiver's memory. */
const AROUND = 37;

/** Hands a datagram to a feed as its receiver does: in a larger memory, which is then used again. */
export function takeDatagram(feed: FeedSequencer, packet: Uint8Array, line: string, nowMs: number): void {
  const memory = new Uint8Array(packet.length + 2 * AROUND).fill(0xa5);
  memory.set(packet, AROUND);
  feed.packet(memory, new DataView(memory.buffer), AROUND, AROUND + packet.length, line, nowMs);
  memory.fill(0x5a);
}
