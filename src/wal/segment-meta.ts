import { WalFormatError } from './errors.ts';

/**
 * A topic as the WAL knows it: enough to read its blocks years later without the program. A `TopicModel` is
 * one.
 */
export interface WalTopic {
  topic: string;
  table: string;
  fingerprint: bigint;
  /** Reflection schema of FlatBuffers. */
  bfbs: Uint8Array;
}

/** A topic with the number of its rows before some LSN. */
export type CountedTopic = WalTopic & { rowsBefore: bigint };

/**
 * Last sequence number of a stream, over all blocks appended so far. Names are bytes: they need not be UTF-8.
 */
export interface StreamPosition {
  source: Uint8Array;
  session: Uint8Array;
  lastSeq: bigint;
  /** Numbers below it, both ends included, that are missing and that no row of the log names yet. */
  unreported?: readonly (readonly [first: bigint, last: bigint])[];
}

/**
 * LSNs that no row has and none will have: rows lost to a failed sync or to damage at the tail. Both ends
 * included.
 */
export interface LsnGap {
  firstLsn: bigint;
  lastLsn: bigint;
  reason: string;
}

/** Metadata of a segment: everything that a reader of this one file needs. */
export interface SegmentMeta {
  recorder: string;
  /** ISO time. */
  createdAt: string;
  host: string;
  topics: CountedTopic[];
  /** Sessions that may resume, with their positions. */
  streams: StreamPosition[];
  /**
   * The positions count groups up to one that ends here or later, and are right once that is durable: the
   * base LSN where the segment begins with a group, one more where it begins within one. Less than the base
   * LSN: they are ahead of the log and never right.
   */
  groupEndLsn: bigint;
  /** Base LSN of the segment before, null for the first. */
  previousBaseLsn: bigint | null;
  /** Rows below it had been synced when this segment began. */
  syncedLsn: bigint;
  gapBefore: LsnGap | null;
}

/** Whether recovery may begin at a segment, where all rows below `durableLsn` are durable. */
export function isStart({ groupEndLsn }: SegmentMeta, baseLsn: bigint, durableLsn: bigint): boolean {
  return baseLsn <= groupEndLsn && groupEndLsn <= durableLsn;
}

/** The topic of a record: by its place in the list, or by fingerprint when the list is of another segment. */
export function topicOf(
  meta: SegmentMeta,
  header: { topicIndex: number; schemaFingerprint: bigint },
): WalTopic | undefined {
  const listed = meta.topics[header.topicIndex];
  if (listed?.fingerprint === header.schemaFingerprint) return listed;
  return meta.topics.find(({ fingerprint }) => fingerprint === header.schemaFingerprint);
}

const hex = (value: bigint) => value.toString(16).padStart(16, '0');
const latin1 = (bytes: Uint8Array) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');

/**
 * Metadata as JSON. 64-bit numbers are decimal strings, fingerprints hexadecimal, names of streams latin-1
 * text.
 */
export function encodeSegmentMeta(meta: SegmentMeta): string {
  return JSON.stringify({
    recorder: meta.recorder,
    createdAt: meta.createdAt,
    host: meta.host,
    topics: meta.topics.map((entry) => ({
      topic: entry.topic,
      table: entry.table,
      fingerprint: hex(entry.fingerprint),
      bfbs: Buffer.from(entry.bfbs).toString('base64'),
      rowsBefore: entry.rowsBefore.toString(),
    })),
    streams: meta.streams.map((stream) => ({
      source: latin1(stream.source),
      session: latin1(stream.session),
      lastSeq: stream.lastSeq.toString(),
      unreported: stream.unreported?.map((range) => range.map(String)),
    })),
    previousBaseLsn: meta.previousBaseLsn?.toString() ?? null,
    groupEndLsn: meta.groupEndLsn.toString(),
    syncedLsn: meta.syncedLsn.toString(),
    gapBefore: meta.gapBefore && {
      firstLsn: meta.gapBefore.firstLsn.toString(),
      lastLsn: meta.gapBefore.lastLsn.toString(),
      reason: meta.gapBefore.reason,
    },
  });
}

interface MetaJson {
  recorder: string;
  createdAt: string;
  host: string;
  topics: { topic: string; table: string; fingerprint: string; bfbs: string; rowsBefore: string }[];
  streams: { source: string; session: string; lastSeq: string; unreported?: [string, string][] }[];
  previousBaseLsn: string | null;
  groupEndLsn: string;
  syncedLsn: string;
  gapBefore: { firstLsn: string; lastLsn: string; reason: string } | null;
}

const fromLatin1 = (text: string) => new Uint8Array(Buffer.from(text, 'latin1'));

/** Metadata from JSON whose checksum held; throws WalFormatError when it is not what this version writes. */
export function decodeSegmentMeta(json: string): SegmentMeta {
  try {
    const raw = JSON.parse(json) as MetaJson;
    return {
      recorder: raw.recorder,
      createdAt: raw.createdAt,
      host: raw.host,
      topics: raw.topics.map((entry) => ({
        topic: entry.topic,
        table: entry.table,
        fingerprint: BigInt(`0x${entry.fingerprint}`),
        bfbs: new Uint8Array(Buffer.from(entry.bfbs, 'base64')),
        rowsBefore: BigInt(entry.rowsBefore),
      })),
      streams: raw.streams.map((stream) => ({
        source: fromLatin1(stream.source),
        session: fromLatin1(stream.session),
        lastSeq: BigInt(stream.lastSeq),
        ...(stream.unreported === undefined
          ? {}
          : { unreported: stream.unreported.map(([first, last]) => [BigInt(first), BigInt(last)] as const) }),
      })),
      previousBaseLsn: raw.previousBaseLsn === null ? null : BigInt(raw.previousBaseLsn),
      groupEndLsn: BigInt(raw.groupEndLsn),
      syncedLsn: BigInt(raw.syncedLsn),
      gapBefore: raw.gapBefore && {
        firstLsn: BigInt(raw.gapBefore.firstLsn),
        lastLsn: BigInt(raw.gapBefore.lastLsn),
        reason: raw.gapBefore.reason,
      },
    };
  } catch (cause) {
    throw new WalFormatError('metadata of the segment cannot be read', { cause });
  }
}
