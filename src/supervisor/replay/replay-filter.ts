// Which rows of the WAL a replay takes: by topic, LSN, stream, sequence number and time.

import type { BlockView } from '../../columns/block-codec.ts';

/** Null: no condition. All conditions must hold. */
export interface RowFilter {
  topic: string | null;
  fromLsn: bigint;
  /** First LSN that is not wanted. */
  endLsn: bigint | null;
  source: string | null;
  session: string | null;
  /** Both included. */
  fromSeq: bigint | null;
  toSeq: bigint | null;
  /** ns since 1970 of the row's ingest_ts; the end is not included. */
  fromNs: bigint | null;
  endNs: bigint | null;
}

/** Every row passes. */
export const ALL_ROWS: RowFilter = {
  topic: null,
  fromLsn: 0n,
  endLsn: null,
  source: null,
  session: null,
  fromSeq: null,
  toSeq: null,
  fromNs: null,
  endNs: null,
};

/** Rows `fromRow` to `toRow` (not included). */
export interface RowRun {
  fromRow: number;
  toRow: number;
}

const decoder = new TextDecoder();

/** The rows of a block that pass, as runs of neighbours; `lsn` is that of the block's first row. */
export function selectRows(view: BlockView, lsn: bigint, filter: RowFilter): RowRun[] {
  const start = filter.fromLsn > lsn ? Number(filter.fromLsn - lsn) : 0;
  const wanted = filter.endLsn === null ? view.rowCount : Number(filter.endLsn - lsn);
  const end = Math.min(view.rowCount, wanted);
  if (end <= start) return [];
  const passes = rowTest(view, filter);
  if (passes === null) return [{ fromRow: start, toRow: end }];
  const runs: RowRun[] = [];
  for (let row = start; row < end; row++) {
    if (!passes(row)) continue;
    const last = runs.at(-1);
    if (last?.toRow === row) last.toRow = row + 1;
    else runs.push({ fromRow: row, toRow: row + 1 });
  }
  return runs;
}

/** Null when every row passes. */
function rowTest(view: BlockView, filter: RowFilter): ((row: number) => boolean) | null {
  const { source, session, fromSeq, toSeq, fromNs, endNs } = filter;
  const isStreamWanted = view.streams.map(
    (stream) =>
      (source === null || decoder.decode(stream.source) === source) &&
      (session === null || decoder.decode(stream.session) === session),
  );
  const seqs = fromSeq !== null || toSeq !== null;
  const times = fromNs !== null || endNs !== null;
  if (!seqs && !times && isStreamWanted.every(Boolean)) return null;
  const { streamIndex, seqWords, ingestTsWords } = view;
  return (row) => {
    if (!isStreamWanted[streamIndex[row]!]) return false;
    if (seqs && !isWithin(wordsAt(seqWords, row), fromSeq, toSeq === null ? null : toSeq + 1n)) return false;
    return !times || isWithin(BigInt.asIntN(64, wordsAt(ingestTsWords, row)), fromNs, endNs);
  };
}

function wordsAt(words: Uint32Array, row: number): bigint {
  return (BigInt(words[row * 2 + 1]!) << 32n) | BigInt(words[row * 2]!);
}

function isWithin(value: bigint, from: bigint | null, end: bigint | null): boolean {
  return (from === null || value >= from) && (end === null || value < end);
}
