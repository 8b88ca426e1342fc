// `recorder wal`: ls, verify and dump look into a WAL directory, beside a recorder or without one, and change
// nothing; the other sub-commands have files of their own.

import Table from 'cli-table3';
import type { Command } from 'commander';
import type { FileSystem } from '../io/file-system.ts';
import { realFileSystem } from '../io/real-file-system.ts';
import { listDeadLetters } from '../sink/dead-letter.ts';
import { openHorizon } from '../wal/horizon.ts';
import { ownerState, readLock } from '../wal/lock.ts';
import { type ListedSegment, listSegments } from '../wal/segment-list.ts';
import { verifyWal } from '../wal/verify.ts';
import { addSettingFlags, printLine, toJson } from './options.ts';
import { directoryOf, guarded, JSON_FLAG } from './wal-command.ts';
import { type DumpOptions, dumpWal, parseDumpOptions } from './wal-dump.ts';
import { addRepair } from './wal-repair.ts';
import { addReplay } from './wal-replay.ts';
import { showVerify } from './wal-verify.ts';

function ownerOf(fileSystem: FileSystem, dir: string): { pid: number; host: string; alive: boolean } | null {
  const owner = readLock(fileSystem, dir);
  return owner && { pid: owner.pid, host: owner.host, alive: ownerState(owner) !== 'dead' };
}

function segmentFacts({ segment, endLsn, blocks, rows, rowsByTopic, usedSizeBytes }: ListedSegment) {
  return {
    name: segment.name,
    firstLsn: segment.baseLsn,
    endLsn,
    blocks,
    rows,
    topics: Object.fromEntries(rowsByTopic),
    usedBytes: usedSizeBytes,
    sizeBytes: segment.sizeBytes,
    createdAt: segment.meta?.createdAt ?? null,
    recorder: segment.meta?.recorder ?? null,
    fault: segment.fault,
  };
}

function listWal(fileSystem: FileSystem, dir: string, json: boolean): void {
  const listed = listSegments(fileSystem, dir);
  const horizon = openHorizon(fileSystem, dir);
  const walId = horizon?.walId ?? listed.find(({ segment }) => segment.header)?.segment.header?.walId ?? null;
  const deadLetters = listDeadLetters(fileSystem, dir);
  const facts = listed.map(segmentFacts);
  const owner = ownerOf(fileSystem, dir);
  const rows = facts.reduce((sum, segment) => sum + segment.rows, 0n);
  const durableLsn = horizon?.durableLsn() ?? null;
  if (json) {
    printLine(
      toJson({
        dir,
        walId: walId?.toString(16) ?? null,
        durableLsn,
        owner,
        rows,
        segments: facts,
        deadLetters,
      }),
    );
    return;
  }
  const table = new Table({
    head: ['segment', 'first LSN', 'end LSN', 'blocks', 'rows', 'used', 'size', 'made', 'rows by topic'],
    style: { head: [], border: [] },
  });
  for (const segment of facts) {
    const topics = Object.entries(segment.topics).map(([topic, count]) => `${topic} ${count}`);
    const { name, firstLsn, endLsn, blocks, usedBytes, sizeBytes, createdAt, fault } = segment;
    const cells = [
      name,
      firstLsn,
      endLsn,
      blocks,
      segment.rows,
      usedBytes,
      sizeBytes,
      createdAt ?? `(${fault})`,
    ];
    table.push([...cells.map(String), topics.join('\n')]);
  }
  printLine(table.toString());
  const holder = owner === null || !owner.alive ? 'nobody' : `process ${owner.pid} on ${owner.host}`;
  const name = walId?.toString(16) ?? 'unknown';
  printLine(`WAL ${name}: ${rows} rows, durable below LSN ${durableLsn ?? '?'}, in use by ${holder}`);
  for (const letter of deadLetters) {
    const { topic, firstLsn, lastLsn, rowCount, reason } = letter;
    printLine(`dead letter: ${topic} LSN ${firstLsn} to ${lastLsn}, ${rowCount} rows: ${reason}`);
  }
  if (deadLetters.length > 0) printLine('once their cause is gone: recorder wal replay --dead-letters');
}

/** Adds `recorder wal` with its sub-commands. */
export function registerWal(program: Command): void {
  const wal = program.command('wal').description('look into the write-ahead log');
  const fileSystem = realFileSystem;

  const ls = wal
    .command('ls [dir]')
    .description('list segments, rows by topic, and dead letters')
    .option(...JSON_FLAG);
  addSettingFlags(ls, ['walDir']).action((dir: string | undefined, options: { json?: boolean }) =>
    guarded(options.json, () => listWal(fileSystem, directoryOf(ls, dir, fileSystem), options.json === true)),
  );

  const verify = wal
    .command('verify [dir]')
    .description('check every byte; exit code 1 when rows are lost or damaged. Changes nothing')
    .option(...JSON_FLAG);
  addSettingFlags(verify, ['walDir']).action((dir: string | undefined, options: { json?: boolean }) =>
    guarded(options.json, () => {
      showVerify(verifyWal(fileSystem, directoryOf(verify, dir, fileSystem)), options.json === true);
    }),
  );

  const dump = wal
    .command('dump [dir]')
    .description('print rows as JSON lines or CSV')
    .option('--topic <name>', 'only rows of this topic; needed for CSV')
    .option('--from-lsn <lsn>', 'first LSN')
    .option('--to-lsn <lsn>', 'last LSN, included')
    .option('--limit <rows>', 'at most so many rows')
    .option(
      '--format <jsonl|csv>',
      'CSV shows bytes that are not UTF-8 as U+FFFD; JSON lines keep them as hex',
      'jsonl',
    )
    .option(...JSON_FLAG);
  addSettingFlags(dump, ['walDir']).action(
    (dir: string | undefined, options: DumpOptions & { json?: boolean }) =>
      guarded(options.json, async () => {
        const request = parseDumpOptions(options);
        const summary = await dumpWal(fileSystem, directoryOf(dump, dir, fileSystem), request);
        if (summary.damagedRanges > 0) process.exitCode = 1;
        if (options.json === true) printLine(toJson(summary));
      }),
  );

  addReplay(wal);
  addRepair(wal);
}
