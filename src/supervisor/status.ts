// The recorder's own counts, as other processes see them in `<walDir>/status.json`.

import { clickhouseUrls } from '../config.ts';
import type { RecorderParts } from './recorder.ts';
import type { RecorderStatus, TopicStatus } from './status-file.ts';

/** What a running recorder says of itself. */
export function statusOf(parts: RecorderParts): RecorderStatus {
  const { config, path, flusher, stream, datagram, httpUrl } = parts;
  const { ingest, wal } = path;
  const topics: Record<string, TopicStatus> = {};
  for (const { model, received, logged, malformed, shed, own } of ingest.topics) {
    topics[model.topic] = { received, logged, malformed, shed, own };
  }
  const feeds = [...(datagram?.stats.values() ?? [])];
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
  return {
    pid: process.pid,
    walId: wal.walId.toString(),
    recorder: config.recorderId,
    updatedAt: new Date().toISOString(),
    topics,
    malformed: Object.fromEntries(ingest.malformedByReason),
    duplicates: sum([stream?.stats.duplicates ?? 0, ...feeds.map(({ duplicates }) => duplicates)]),
    gaps: sum(feeds.map(({ missing, filledLate }) => missing - filledLate)),
    ...(httpUrl === null ? {} : { httpUrl }),
    ...(flusher === null ? {} : { clickhouseUrl: clickhouseUrls(config)[0]! }),
  };
}
