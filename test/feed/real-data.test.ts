// The importers against sums that an independent script computes from the same files.

import { expect, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { openBinance } from '../../src/feed/binance.ts';
import type { EventSource } from '../../src/feed/event.ts';
import { openLean } from '../../src/feed/lean.ts';
import { openLobster } from '../../src/feed/lobster.ts';
import { feedFixture } from './feed-fixture.ts';

const DATA = join(import.meta.dir, '../../../shared/data');
const SCRIPT = join(import.meta.dir, '../support/independent-sums.py');
const PYTHON = existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3';

/** Times are ns since 1970: as JSON numbers both sides lose the same last digits. */
interface Sums {
  rows: number;
  buys: number;
  levels: number;
  first_exch_ts: number;
  last_exch_ts: number;
  [name: string]: string | number;
}

/** Units of 1e-9 or 1e-18 as plain decimal text without trailing zeros. */
function decimalText(units: bigint, scale: number): string {
  const digits = (units < 0n ? -units : units).toString().padStart(scale + 1, '0');
  const fraction = digits.slice(-scale).replace(/0+$/, '');
  return `${units < 0n ? '-' : ''}${digits.slice(0, -scale)}${fraction === '' ? '' : `.${fraction}`}`;
}

const KINDS = ['unknown', 'tick', 'quote', 'depth', 'snapshot'];

/** The same sums over the importer's rows; market data by kind, orders and fills as wholes. */
async function sumsOf(sources: EventSource[]): Promise<Map<string, Sums>> {
  const totals = new Map<string, Record<string, bigint>>();
  for (const source of sources) {
    for await (const batch of source.batches()) {
      for (const { topic, row } of batch) {
        const isMarketData = topic === 'market_data';
        const key = isMarketData ? `${topic}/${KINDS[row['kind'] as number]}` : topic;
        const sums = totals.get(key) ?? {};
        totals.set(key, sums);
        const add = (name: string, value: bigint) => {
          sums[name] = (sums[name] ?? 0n) + value;
        };
        const time = (row[topic === 'fills' ? 'match_ts' : 'exch_ts'] as bigint) ?? 0n;
        sums['first'] = sums['first'] === undefined || time < sums['first'] ? time : sums['first'];
        sums['last'] = sums['last'] === undefined || time > sums['last'] ? time : sums['last'];
        add('rows', 1n);
        add('buys', row[isMarketData ? 'trade_side' : 'side'] === 1 ? 1n : 0n);
        const volume = (row[isMarketData ? 'volume' : 'qty'] as bigint | undefined) ?? 0n;
        add('volume', volume);
        add('notional', ((row['price'] as bigint | undefined) ?? 0n) * volume);
        for (const side of ['bid', 'ask']) {
          const prices = (row[`${side}_prices`] as bigint[] | undefined) ?? [];
          const sizes = (row[`${side}_sizes`] as bigint[] | undefined) ?? [];
          if (sizes.length !== prices.length)
            throw new Error(`${sizes.length} sizes for ${prices.length} prices`);
          for (const [i, price] of prices.entries()) {
            add(`${side}_size`, sizes[i]!);
            add(`${side}_notional`, price * sizes[i]!);
          }
          add('levels', BigInt(prices.length));
        }
      }
    }
  }
  const shown = [...totals].map(([key, sums]): [string, Sums] => {
    const result: Sums = {
      rows: Number(sums['rows']),
      buys: Number(sums['buys']),
      levels: Number(sums['levels']),
      first_exch_ts: Number(sums['first']),
      last_exch_ts: Number(sums['last']),
    };
    for (const name of ['volume', 'bid_size', 'ask_size']) result[name] = decimalText(sums[name] ?? 0n, 9);
    for (const name of ['notional', 'bid_notional', 'ask_notional'])
      result[name] = decimalText(sums[name] ?? 0n, 18);
    return [key, result];
  });
  return new Map(shown);
}

const available = existsSync(DATA) && Bun.which(PYTHON) !== null;
if (!available)
  process.stderr.write(`SKIPPED: importers against real data: ${DATA} or python3 is not there\n`);

const FEEDS = [
  ['lean', openLean, 701_984],
  ['binance', openBinance, 135_203],
  ['lobster', openLobster, 2157],
] as const;

for (const [feed, open, rows] of FEEDS) {
  test.skipIf(!available)(
    `${feed}: all files, rows and sums equal those of the independent script`,
    async () => {
      using fixture = feedFixture();
      const directory = join(DATA, feed);
      const script = Bun.spawnSync([PYTHON, SCRIPT, feed, directory]);
      expect(script.stderr.toString()).toBe('');
      const { total } = JSON.parse(script.stdout.toString()) as { total: Record<string, Sums> };
      const sums = await sumsOf(await open([directory], {}, fixture.report));
      expect(fixture.said).toEqual([]);
      let counted = 0;
      for (const [key, own] of sums) {
        const expected = total[key]!;
        expect({ key, ...own }).toEqual({ key, ...expected });
        counted += own.rows;
      }
      expect(counted).toBe(rows);
      const topics = Object.entries(total).filter(([key]) => !key.includes('/'));
      expect(topics.reduce((sum, [, { rows }]) => sum + rows, 0)).toBe(rows);
    },
    120_000,
  );
}
