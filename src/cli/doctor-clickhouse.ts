// What the doctor looks at in ClickHouse: whether it answers, what it can do, its tables, its clock.

import type { Config } from '../config.ts';
import { describeError } from '../errors.ts';
import { topics } from '../schema/registry.ts';
import { probeCapabilities } from '../sink/capabilities.ts';
import { connectClickHouse, type SinkClient } from '../sink/clickhouse-client.ts';
import { compareTable, readTable, TableMismatchError } from '../sink/compare-table.ts';
import { clickhouseAddress } from '../supervisor/clickhouse-address.ts';
import { type Finding, ok, shellWord, warning, wrong } from './doctor-finding.ts';

/** The server's clock is asked for seconds, which every version has. */
const CLOCK_TOLERANCE_MS = 2000;
const TIMEOUT_MS = 5000;

/** Looks at every server. @param urls empty: ClickHouse is off */
export async function checkClickhouse(config: Config, urls: readonly string[]): Promise<Finding[]> {
  if (urls.length === 0) {
    return [ok('clickhouse', 'off: rows go to the WAL only (HFT_CLICKHOUSE_HOST turns it on)')];
  }
  const found: Finding[] = [];
  for (const url of urls) {
    let client: SinkClient | null = null;
    try {
      const address = clickhouseAddress(config, [url]);
      client = connectClickHouse({ ...address, timeoutMs: Math.min(TIMEOUT_MS, address.timeoutMs) });
      found.push(...(await checkServer(config, url, client)));
    } catch (error) {
      const command = `curl -sS ${shellWord(`${url}/ping`)}`;
      found.push(wrong('clickhouse', `${url}: ${describeError(error)}`, command));
    } finally {
      await client?.close();
    }
  }
  return found;
}

async function checkServer(config: Config, url: string, client: SinkClient): Promise<Finding[]> {
  const capabilities = await probeCapabilities(client);
  const found = [ok('clickhouse', `${url} is version ${capabilities.version}`)];
  if (!capabilities.deduplicationTokens) {
    const text = `${url} has no deduplication tokens: after an unknown outcome it is asked what it has`;
    found.push(warning('clickhouse', text, 'upgrade ClickHouse to 22.2 or later'));
  }
  found.push(await checkClock(url, client));
  const database = config.clickhouseDatabase;
  const absent: string[] = [];
  let fitting = 0;
  for (const model of topics) {
    const columns = await readTable(client, database, model.table);
    if (columns.length === 0) {
      absent.push(model.table);
      continue;
    }
    try {
      compareTable(model, columns, capabilities, database);
      fitting++;
    } catch (error) {
      if (!(error instanceof TableMismatchError)) throw error;
      const command = error.problems.map(({ fix }) => `${fix};`).join(' ');
      found.push(wrong('schema', error.message, `clickhouse-client -q ${shellWord(command)}`));
    }
  }
  if (fitting > 0) found.push(ok('schema', `${fitting} tables of ${database} fit`));
  if (absent.length > 0) {
    found.push(ok('schema', `${database}.{${absent.join(',')}} are made when the first rows are delivered`));
  }
  return found;
}

async function checkClock(url: string, client: SinkClient): Promise<Finding> {
  const startMs = Date.now();
  const [row] = await client.query<{ now: string | number }>('SELECT toUnixTimestamp(now()) AS now');
  const middleMs = (startMs + Date.now()) / 2;
  // Whole seconds, rounded down: half a second more is the middle.
  const skewMs = Number(row?.now) * 1000 + 500 - middleMs;
  const [seconds, side] = [(Math.abs(skewMs) / 1000).toFixed(1), skewMs < 0 ? 'behind' : 'ahead'];
  const text = `the clock of ${url} is ${seconds} s ${side}`;
  if (Math.abs(skewMs) <= CLOCK_TOLERANCE_MS)
    return ok('clock', `the clock of ${url} agrees within a second`);
  return warning('clock', text, 'timedatectl status; chronyc tracking');
}
