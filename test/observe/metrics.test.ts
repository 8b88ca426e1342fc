import { describe, expect, test } from 'bun:test';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createMetrics } from '../../src/observe/metrics.ts';

const valuesOf = (text: string) => text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));

describe('metrics', () => {
  test('show the values given, with help and type', async () => {
    const metrics = createMetrics();
    const text = await metrics.expose([
      { name: 'recorder_received_rows_total', value: 5, labels: { topic: 'orders' } },
      { name: 'recorder_next_lsn', value: 7 },
    ]);
    expect(text).toContain('# HELP recorder_received_rows_total ');
    expect(text).toContain('# TYPE recorder_received_rows_total counter');
    expect(valuesOf(text)).toContain('recorder_received_rows_total{topic="orders"} 5');
    expect(valuesOf(text)).toContain('recorder_next_lsn 7');
    expect(metrics.contentType).toStartWith('text/plain');
  });

  test('a scrape shows what is there now, not the sum over scrapes', async () => {
    const metrics = createMetrics();
    for (const value of [5, 8]) {
      const text = await metrics.expose([
        { name: 'recorder_inserted_rows_total', value, labels: { topic: 'fills' } },
      ]);
      expect(valuesOf(text)).toContain(`recorder_inserted_rows_total{topic="fills"} ${value}`);
    }
  });

  test('absent is not zero: without a value there is no sample, also after there was one', async () => {
    const metrics = createMetrics();
    const scraped = (text: string) => valuesOf(text).filter((line) => !/_(bucket|sum|count)/.test(line));
    expect(scraped(await metrics.expose([]))).toEqual([]);
    await metrics.expose([
      { name: 'recorder_wal_writable', value: 1 },
      { name: 'recorder_lag_rows', value: 1, labels: { topic: 'orders' } },
    ]);
    expect(scraped(await metrics.expose([]))).toEqual([]);
  });

  test('nothing is declared that nobody gives a value', () => {
    const folder = join(import.meta.dir, '../../src/supervisor');
    const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
    const givers = names
      .filter((name) => name.endsWith('.ts'))
      .map((name) => readFileSync(join(folder, name), 'utf8'));
    const declaration = readFileSync(join(import.meta.dir, '../../src/observe/metrics.ts'), 'utf8');
    const declared = [...declaration.matchAll(/^ {2}((?:recorder|process)_\w+): \[/gm)].map(
      (match) => match[1]!,
    );
    expect(declared.length).toBeGreaterThan(40);
    expect(declared.filter((name) => !givers.some((source) => source.includes(`'${name}'`)))).toEqual([]);
  });

  test('histograms are kept between scrapes', async () => {
    const metrics = createMetrics();
    metrics.durable.observe({ topic: 'orders' }, 0.004);
    metrics.sync.observe(0.004);
    await metrics.expose([]);
    metrics.sync.observe(0.004);
    const lines = valuesOf(await metrics.expose([]));
    expect(lines).toContain('recorder_durable_seconds_count{topic="orders"} 1');
    expect(lines).toContain('recorder_sync_seconds_bucket{le="0.005"} 2');
    expect(lines).toContain('recorder_sync_seconds_bucket{le="0.002"} 0');
    // Nothing was inserted: no bucket of it.
    expect(lines.filter((line) => line.startsWith('recorder_inserted_seconds'))).toEqual([]);
  });
});
