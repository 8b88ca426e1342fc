// Sums over market data in ClickHouse, in the notation of the independent script: by feed, topic and kind.

import { expect } from 'bun:test';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { sql } from '../support/recorder-process.ts';

export const MARKET_DATA_DIR = join(import.meta.dir, '../../../shared/data');
const SCRIPT = join(import.meta.dir, '../support/independent-sums.py');
const PYTHON = existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3';
const KINDS = ['unknown', 'tick', 'quote', 'depth', 'snapshot'];

export const FEEDS = ['lean', 'binance', 'lobster'] as const;
export type Feed = (typeof FEEDS)[number];

/** Rows that the files make. */
export const MARKET_DATA_ROWS: Record<Feed, number> = { lean: 701_984, binance: 135_203, lobster: 2157 };

/** Decimal texts by name; see independent-sums.py. */
export type Sums = Record<string, string>;

/** Whether the files are there; says loudly when they are not. */
export function hasMarketData(): boolean {
  const found = existsSync(MARKET_DATA_DIR) && Bun.which(PYTHON) !== null;
  if (!found) {
    process.stderr.write(
      `\n*** ${MARKET_DATA_DIR} or python3 is not there: the tests on real market data DO NOT RUN.\n\n`,
    );
  }
  return found;
}

const computed = new Map<Feed, Record<string, Sums>>();

/** Sums of all files of a feed, computed by the script that shares no code with the project. */
function independentSums(feed: Feed): Record<string, Sums> {
  const known = computed.get(feed);
  if (known !== undefined) return known;
  const script = Bun.spawnSync([PYTHON, SCRIPT, feed, join(MARKET_DATA_DIR, feed)]);
  if (script.exitCode !== 0) throw new Error(script.stderr.toString());
  // Times have more digits than a JSON number holds.
  const exact = script.stdout.toString().replaceAll(/: (\d+)/g, ': "$1"');
  const { total } = JSON.parse(exact) as { total: Record<string, Sums> };
  computed.set(feed, total);
  return total;
}

/** Decimal text as the script writes it: without trailing zeros. */
function plain(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

/** A decimal column as a wider one, so that products and sums are exact. */
const wide = (column: string) => `toDecimal128(${column}, 9)`;

async function isInteger(url: string, table: string, column: string): Promise<boolean> {
  const [row] = await sql(
    url,
    `SELECT type FROM system.columns WHERE database = 'hft' AND table = '${table}' AND name = '${column}'`,
  );
  return row?.[0] === 'Int64';
}

/** Sums of everything that one source has sent, by "topic/kind" for market data and by topic for the rest. */
async function storedSums(url: string, source: string): Promise<Record<string, Sums>> {
  const sums: Record<string, Sums> = {};
  const where = `WHERE source = '${source}'`;
  const timesOf = async (table: string, column: string) => {
    const ticks = (await isInteger(url, table, column)) ? column : `reinterpretAsInt64(${column})`;
    return `min(${ticks}), max(${ticks})`;
  };
  const marketTimes = await timesOf('market_data', 'exch_ts');
  const rows = await sql(
    url,
    `SELECT kind, count(), sum(${wide('volume')}), sum(${wide('price')} * ${wide('volume')}),
       sum(length(bid_prices) + length(ask_prices)), countIf(trade_side = 1), ${marketTimes}
     FROM hft.market_data ${where} GROUP BY kind`,
  );
  for (const [kind, count, volume, notional, levels, buys, first, last] of rows as string[][]) {
    sums[`market_data/${KINDS[Number(kind)]}`] = {
      rows: count!,
      volume: plain(volume!),
      notional: plain(notional!),
      levels: levels!,
      buys: buys!,
      first_exch_ts: first!,
      last_exch_ts: last!,
      ...{ bid_size: '0', bid_notional: '0', ask_size: '0', ask_notional: '0' },
    };
  }
  for (const side of ['bid', 'ask']) {
    const levels = await sql(
      url,
      `SELECT kind, sum(${wide('s')}), sum(${wide('p')} * ${wide('s')}) FROM hft.market_data
       ARRAY JOIN ${side}_prices AS p, ${side}_sizes AS s ${where} GROUP BY kind`,
    );
    for (const [kind, size, notional] of levels as string[][]) {
      const own = sums[`market_data/${KINDS[Number(kind)]}`]!;
      own[`${side}_size`] = plain(size!);
      own[`${side}_notional`] = plain(notional!);
    }
  }
  for (const [topic, table, time] of [
    ['orders', 'orders', 'exch_ts'],
    ['fills', 'trades', 'match_ts'],
  ] as const) {
    const [row] = await sql(
      url,
      `SELECT count(), sum(${wide('qty')}), sum(${wide('assumeNotNull(price)')} * ${wide('qty')}),
         countIf(side = 1), ${await timesOf(table, time)} FROM hft.${table} ${where}`,
    );
    const [count, volume, notional, buys, first, last] = row as string[];
    if (count === '0') continue;
    sums[topic] = {
      rows: count!,
      volume: plain(volume!),
      notional: plain(notional!),
      buys: buys!,
      first_exch_ts: first!,
      last_exch_ts: last!,
    };
  }
  return sums;
}

/** Fails unless ClickHouse has the rows of all files, as sources `feed-<feed>`, with all their sums. */
export async function expectSumsOfFiles(url: string): Promise<void> {
  for (const feed of FEEDS) {
    const fromFiles = independentSums(feed);
    const stored = await storedSums(url, `feed-${feed}`);
    const kindsOf = (sums: object) => Object.keys(sums).filter((key) => key.startsWith('market_data/'));
    expect(kindsOf(stored).sort()).toEqual(kindsOf(fromFiles).sort());
    let rows = 0;
    for (const [key, sums] of Object.entries(stored)) {
      expect({ feed, key, ...fromFiles[key] }).toMatchObject({ feed, key, ...sums });
      rows += Number(sums['rows']);
    }
    expect({ feed, rows }).toEqual({ feed, rows: MARKET_DATA_ROWS[feed] });
  }
}
