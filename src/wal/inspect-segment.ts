import type { FileSystem } from '../io/file-system.ts';
import { endLsn, type RecordHeader } from './format.ts';
import { openForReading } from './segment-file.ts';
import { type SegmentMeta, topicOf } from './segment-meta.ts';
import { type ScanItem, scanSegment } from './segment-scan.ts';

/** What a finished segment holds, every byte checked. */
export interface InspectedSegment {
  /** LSN after the last row of each topic. */
  endLsns: Map<string, bigint>;
  /** Rows that cannot be read, or whose topic is not known; both ends included. */
  lost: { firstLsn: bigint; lastLsn: bigint }[];
}

/** Bytes that are checked before other work gets its turn: some tenths of a millisecond. */
const SLICE_BYTES = 1024 * 1024;

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/**
 * Reads a segment that nobody writes to any more, and lets other work of this thread run meanwhile.
 * @param limitLsn LSN at which its rows end, as the next segment says; rows from there on are void
 * @param others segments whose headers may serve when its own is damaged
 */
export async function inspectSegment(
  fileSystem: FileSystem,
  dir: string,
  segment: { name: string; baseLsn: bigint },
  limitLsn: bigint,
  others: readonly { baseLsn: bigint }[],
): Promise<InspectedSegment> {
  const result: InspectedSegment = { endLsns: new Map(), lost: [] };
  const opened = openForReading(fileSystem, dir, segment, others);
  if (opened === null) {
    if (limitLsn > segment.baseLsn) result.lost.push({ firstLsn: segment.baseLsn, lastLsn: limitLsn - 1n });
    return result;
  }
  const { file, header, meta } = opened.segment;
  try {
    const start = { offset: opened.offset, lsn: segment.baseLsn, walId: header.walId, prevChecksum: null };
    let looked = 0;
    for (const item of scanSegment(file, start)) {
      if (!take(result, meta, item, limitLsn)) break;
      const offset = item.kind === 'block' ? item.offset : item.endOffset;
      if (offset - looked < SLICE_BYTES) continue;
      looked = offset;
      await nextTurn();
    }
  } finally {
    file.close();
  }
  return result;
}

/** False when what follows does not count. */
function take(result: InspectedSegment, meta: SegmentMeta, item: ScanItem, limitLsn: bigint): boolean {
  if (item.kind === 'block') {
    if (item.header.lsn >= limitLsn) return false;
    addBlock(result, meta, item.header);
    return true;
  }
  const firstLsn = item.kind === 'damage' ? item.firstLsn : item.lsn;
  const lastLsn = item.kind === 'damage' && item.lastLsn < limitLsn ? item.lastLsn : limitLsn - 1n;
  if (lastLsn >= firstLsn) result.lost.push({ firstLsn, lastLsn });
  return item.kind === 'damage';
}

function addBlock(result: InspectedSegment, meta: SegmentMeta, header: RecordHeader): void {
  const topic = topicOf(meta, header);
  if (topic === undefined) result.lost.push({ firstLsn: header.lsn, lastLsn: endLsn(header) - 1n });
  else result.endLsns.set(topic.topic, endLsn(header));
}
