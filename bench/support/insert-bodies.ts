// The flusher's inserts of a WAL as files: the same groups, encoded beforehand by the same encoders, with the
// URL that a group would go to. What is left is ClickHouse's own work, and curl's.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openBlock } from '../../src/columns/block-codec.ts';
import { realFileSystem } from '../../src/io/real-file-system.ts';
import { limits } from '../../src/limits.ts';
import type { TopicModel } from '../../src/schema/model.ts';
import { createByteSink, resetSink, writtenBytes } from '../../src/sink/byte-sink.ts';
import { probeCapabilities } from '../../src/sink/capabilities.ts';
import type { SinkClient } from '../../src/sink/clickhouse-client.ts';
import type { BlockSlice, InsertFormat } from '../../src/sink/group-encoder.ts';
import { createGroupReader } from '../../src/sink/group-reader.ts';
import { deduplicationToken, type InsertGroup } from '../../src/sink/insert-group.ts';
import { ensureTable, insertSettings, planTable, type TablePlan } from '../../src/sink/table-plan.ts';
import { RECORD_HEADER_SIZE_BYTES } from '../../src/wal/format.ts';
import { openHorizon } from '../../src/wal/horizon.ts';

/** One insert. */
export interface InsertBody {
  path: string;
  /** Path and query of its URL. */
  target: string;
  rows: number;
}

/** Makes the table where it is absent, and what is needed to insert into it. */
export async function planFor(client: SinkClient, model: TopicModel, database: string): Promise<TablePlan> {
  const capabilities = await probeCapabilities(client);
  const columns = await ensureTable(client, model, capabilities, database);
  return planTable(model, columns, capabilities, database);
}

/** The group's rows in memory, all of them: its body is one block, which suits the server best. */
function slicesOf(walDir: string, { model, slices }: InsertGroup): BlockSlice[] {
  return slices.map(({ segment, offset, payloadSizeBytes, rowCount, lsn, fromRow, toRow }) => {
    const payload = new Uint8Array(payloadSizeBytes);
    const file = realFileSystem.open(join(walDir, segment), 'read');
    file.read(payload, offset + RECORD_HEADER_SIZE_BYTES);
    file.close();
    return { view: openBlock(model, payload, rowCount), lsn, fromRow, toRow };
  });
}

function* groupsOf(walDir: string, model: TopicModel, groupRows: number): Generator<InsertGroup> {
  const horizon = openHorizon(realFileSystem, walDir);
  if (horizon === null) throw new Error(`no log in ${walDir}`);
  const reader = createGroupReader({
    cursor: {
      fileSystem: realFileSystem,
      dir: walDir,
      durableLsn: () => horizon.durableLsn(),
      onDamage: ({ reason }) => {
        throw new Error(`the prepared log is damaged: ${reason}`);
      },
    },
    topic: model.topic,
    fromLsn: 0n,
    toLsn: null,
    limits: { rows: groupRows, bytes: limits.flushBytes },
    modelOf: () => model,
  });
  let open: InsertGroup | null = null;
  let openRows = 0;
  for (let filled = reader.fill(null); filled !== null; filled = reader.fill(open)) {
    if (filled.closed) yield filled.group;
    open = filled.closed ? null : filled.group;
    if (open !== null && open.rowCount === openRows) break; // nothing is left in the log
    openRows = open?.rowCount ?? 0;
  }
  if (open !== null) yield open;
  reader.close();
}

/** Writes the bodies of all inserts of a topic into `dir`. */
export function writeInsertBodies(
  dir: string,
  walDir: string,
  plan: TablePlan,
  format: InsertFormat,
  groupRows: number,
): InsertBody[] {
  const sink = createByteSink(limits.flushBytes);
  const bodies: InsertBody[] = [];
  for (const group of groupsOf(walDir, plan.model, groupRows)) {
    resetSink(sink);
    const recorder = new TextEncoder().encode(group.recorder);
    plan.encoder(format)(sink, slicesOf(walDir, group), { recorder, walId: group.walId });
    const path = join(dir, `${format}-${bodies.length}.body`);
    writeFileSync(path, writtenBytes(sink));
    const settings = insertSettings(plan.capabilities, deduplicationToken(group), group.rowCount);
    const target = `/?${new URLSearchParams({ query: plan.insertSql(format), ...settings })}`;
    bodies.push({ path, target, rows: group.rowCount });
  }
  return bodies;
}

/** Posts the bodies one after another over one connection with curl. */
export async function postWithCurl(url: string, bodies: readonly InsertBody[]): Promise<CurlRun> {
  const requests = bodies.flatMap(({ path, target }, i) => [
    ...(i === 0 ? [] : ['--next']),
    ...['--silent', '--show-error', '--fail-with-body', '--header', 'Expect:'],
    ...['--data-binary', `@${path}`, `${url}${target}`],
  ]);
  const startNs = Bun.nanoseconds();
  const curl = Bun.spawn(['curl', ...requests], { stdout: 'pipe', stderr: 'inherit' });
  const output = await new Response(curl.stdout).text();
  if ((await curl.exited) !== 0) throw new Error(`curl ended with code ${curl.exitCode}: ${output}`);
  const seconds = (Bun.nanoseconds() - startNs) / 1e9;
  return { seconds, cpuNs: Number(curl.resourceUsage()!.cpuTime.total) * 1000 };
}

export interface CurlRun {
  seconds: number;
  /** User and system time of curl. */
  cpuNs: number;
}
