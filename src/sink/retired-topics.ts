import type { FileSystem } from '../io/file-system.ts';
import { readTopicModel, type TopicModel } from '../schema/model.ts';
import { segmentsAmong } from '../wal/format.ts';
import { headerOf } from '../wal/segment-file.ts';
import { countBacklog } from './backlog.ts';
import type { FlushLog } from './flush-log.ts';

/**
 * Topics that the program no longer has, but of which the WAL still holds rows to deliver. The newest segment
 * names all topics of a WAL: only where it has one that is unknown is the backlog looked through.
 */
export function retiredTopics(
  fileSystem: FileSystem,
  walDir: string,
  known: readonly TopicModel[],
  log: FlushLog,
  durableLsn: bigint,
): TopicModel[] {
  const segments = segmentsAmong(fileSystem.list(walDir));
  const newest = segments.findLast(({ baseLsn }) => headerOf(fileSystem, walDir, baseLsn) !== null);
  if (newest === undefined) return [];
  const named = headerOf(fileSystem, walDir, newest.baseLsn)?.meta.topics ?? [];
  const unknown = named.filter(({ topic }) => !known.some((model) => model.topic === topic));
  if (unknown.length === 0) return [];
  const names = new Set(unknown.map(({ topic }) => topic));
  const fromLsn = (topic: string) => (names.has(topic) ? log.progressOf(topic).nextLsn : null);
  const rows = countBacklog(fileSystem, walDir, fromLsn, 0n, durableLsn);
  return unknown.filter(({ topic }) => rows.has(topic)).map(({ bfbs }) => readTopicModel(bfbs));
}
