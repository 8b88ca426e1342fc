// A small WAL with known rows, for tests of everything that reads or writes one.

import type { FileSystem } from '../../src/io/file-system.ts';
import { type CursorDamage, createCursor } from '../../src/wal/cursor.ts';
import { openHorizon } from '../../src/wal/horizon.ts';
import { openWal, type WalOptions } from '../../src/wal/open.ts';
import type { WalTopic } from '../../src/wal/segment-meta.ts';
import type { BlockAppend, Wal } from '../../src/wal/writer.ts';
import type { SeededRandom } from './random.ts';

export const DIR = '/wal';

export const TOPICS: readonly WalTopic[] = ['ticks', 'fills', 'spans'].map((topic, index) => ({
  topic,
  table: `table_${topic}`,
  fingerprint: BigInt(index + 1) << 60n,
  bfbs: Uint8Array.of(index, 2, 3),
}));

/** A block as the tests remember it. */
export interface KnownBlock {
  lsn: bigint;
  rowCount: number;
  topic: string;
  payload: Uint8Array;
  endsGroup: boolean;
}

export function block(
  random: SeededRandom,
  options: Partial<BlockAppend> = {},
): BlockAppend & { payload: Uint8Array } {
  const payload = random.bytes(random.int(0, 12) * 8);
  return {
    topicIndex: random.int(0, TOPICS.length - 1),
    rowCount: random.int(1, 5),
    payloadSizeBytes: payload.length,
    firstSeq: BigInt(random.u32()),
    lastSeq: BigInt(random.u32()) << 32n,
    firstStream: 1,
    lastStream: 2,
    streamCount: 3,
    firstIngestTs: -5n,
    lastIngestTs: 1_700_000_000_000_000_000n,
    encode: (target) => target.set(payload),
    payload,
    ...options,
  };
}

/** Appends a random block and returns what must be read back. */
export function appendRandom(wal: Wal, random: SeededRandom, options: Partial<BlockAppend> = {}): KnownBlock {
  const made = block(random, options);
  const lsn = wal.append(made);
  const { rowCount, payload, topicIndex, endsGroup = true } = made;
  return { lsn, rowCount, payload, topic: TOPICS[topicIndex]!.topic, endsGroup };
}

export function open(fileSystem: FileSystem, options: Partial<WalOptions> = {}): Promise<Wal> {
  return openWal({
    dir: DIR,
    recorder: 'test-recorder',
    topics: TOPICS,
    fileSystem,
    segmentSizeBytes: 4096,
    retryIntervalMs: 1,
    ...options,
  });
}

/** Everything that a cursor gives up to the horizon. */
export function readAll(
  fileSystem: FileSystem,
  options: { durableLsn?: bigint; fromLsn?: bigint; topic?: string | null; dir?: string } = {},
): { blocks: KnownBlock[]; damages: CursorDamage[] } {
  const dir = options.dir ?? DIR;
  const horizon = options.durableLsn ?? openHorizon(fileSystem, dir)?.durableLsn() ?? 0n;
  const damages: CursorDamage[] = [];
  const blocks: KnownBlock[] = [];
  const cursor = createCursor({
    fileSystem,
    dir,
    durableLsn: () => horizon,
    fromLsn: options.fromLsn ?? 0n,
    topic: options.topic ?? null,
    onDamage: (damage) => damages.push(damage),
  });
  for (let next = cursor.next(); next !== null; next = cursor.next()) {
    const { lsn, rowCount, endsGroup } = next.header;
    blocks.push({ lsn, rowCount, topic: next.topic.topic, payload: next.payload.slice(), endsGroup });
  }
  cursor.close();
  return { blocks, damages };
}
