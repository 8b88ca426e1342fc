// Progress of the demo: rows that are durable and rows that are in ClickHouse, against the rows to come. A
// bar on a terminal, a line each second otherwise; always on standard error.

import { MultiBar, Presets, type SingleBar } from 'cli-progress';
import { realFileSystem } from '../io/real-file-system.ts';
import type { SqlClient } from '../sink/clickhouse-client.ts';
import { type Horizon, openHorizon } from '../wal/horizon.ts';

const INTERVAL_MS = 500;

const STORED_ROWS =
  "SELECT sum(rows) AS rows FROM system.parts WHERE active AND database = 'hft' AND table != 'gaps'";

const count = (value: number) => Math.round(value).toLocaleString('en-US');

/** Shows progress until `stop` is called. */
export function startProgress(
  rowCount: number,
  walDir: string,
  client: SqlClient,
): { stop(): Promise<void> } {
  const startedMs = performance.now();
  const bars = process.stderr.isTTY ? makeBars(rowCount) : null;
  let horizon: Horizon | null = null;
  let isStopped = false;

  const show = async () => {
    horizon ??= realFileSystem.exists(walDir) ? openHorizon(realFileSystem, walDir) : null;
    const durable = Number(horizon?.durableLsn() ?? 0n);
    const [stored] = await client.query<{ rows: string }>(STORED_ROWS);
    const inserted = Number(stored?.rows ?? 0);
    if (bars !== null) {
      bars.durable.update(durable);
      bars.inserted.update(inserted);
      return;
    }
    const seconds = (performance.now() - startedMs) / 1000;
    const text = `${count(durable)} durable, ${count(inserted)} in ClickHouse`;
    process.stderr.write(`demo: ${seconds.toFixed(1)} s, ${text}, ${count(durable / seconds)} rows/s\n`);
  };
  const loop = async () => {
    while (!isStopped) {
      await Bun.sleep(bars === null ? 2 * INTERVAL_MS : INTERVAL_MS);
      if (!isStopped) await show();
    }
    await show();
    bars?.all.stop();
  };
  // A question that fails now fails again, and loudly, when the counts are taken.
  const running = loop().catch(() => bars?.all.stop());
  return {
    stop: async () => {
      isStopped = true;
      await running;
    },
  };
}

function makeBars(rowCount: number): { all: MultiBar; durable: SingleBar; inserted: SingleBar } {
  const format =
    '{name} {bar} {percentage}% | {value}/{total} rows | {duration_formatted} | left {eta_formatted}';
  const all = new MultiBar({ format, hideCursor: true, stream: process.stderr }, Presets.shades_classic);
  return {
    all,
    durable: all.create(rowCount, 0, { name: 'durable   ' }),
    inserted: all.create(rowCount, 0, { name: 'ClickHouse' }),
  };
}
