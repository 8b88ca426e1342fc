// The tap beside a running recorder, compared with the dump of the same WAL.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import {
  cleanEnvironment,
  type RecorderProcess,
  recorderCommand,
  run,
  startRecorderProcess,
  temporaryHome,
  until,
} from '../support/recorder-process.ts';

type Row = Record<string, unknown> & { topic: string; symbol?: string; wal_lsn: number; price?: string };

const ROWS = 3000;
const home = temporaryHome();
let recorder: RecorderProcess;
let all: Row[] = [];

const rowsOf = (output: string) =>
  output
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Row);

beforeAll(async () => {
  // Small segments: the tap has to go back over several.
  const env = { HFT_DISABLE_CLICKHOUSE: '1', HFT_BATCH_ROWS: '100', HFT_WAL_SEGMENT_BYTES: '128KiB' };
  recorder = await startRecorderProcess(home.path, { env });
  await feed(1);
  all = rowsOf((await run(['wal', 'dump', recorder.walDir])).output);
}, 60_000);
afterAll(async () => {
  await recorder.end('SIGTERM');
  home[Symbol.dispose]();
});

async function feed(seed: number): Promise<void> {
  const args = ['feed', 'sim', '--rows', String(ROWS), '--socket', recorder.socket, '--seed', String(seed)];
  expect((await run([...args, '--session', `S${seed}`])).code).toBe(0);
}

async function once(...flags: string[]): Promise<Row[]> {
  const { code, output, errors } = await run(['tap', recorder.walDir, '--once', '--json', ...flags]);
  expect({ code, errors }).toEqual({ code: 0, errors: '' });
  return rowsOf(output);
}

describe('tap --once', () => {
  test('shows the last rows as the dump has them', async () => {
    expect(all.length).toBeGreaterThanOrEqual(ROWS);
    expect(await once()).toEqual(all.slice(-10));
    expect(await once('--last', '1')).toEqual(all.slice(-1));
    expect(await once('--last', '2500')).toEqual(all.slice(-2500));
    expect(await once('--last', '1000000')).toEqual(all);
    expect(await once('--last', '0')).toEqual([]);
  }, 60_000);

  test('filters by topic, symbol and condition', async () => {
    const fills = all.filter(({ topic }) => topic === 'fills');
    expect(await once('--topic', 'fills', '--last', '5')).toEqual(fills.slice(-5));
    expect(await once('--topic', 'fills', '--topic', 'orders', '--last', '9999')).toEqual(
      all.filter(({ topic }) => topic === 'fills' || topic === 'orders'),
    );
    const symbol = fills[0]!.symbol!;
    const ofSymbol = all.filter((row) => row.symbol === symbol);
    expect(await once('--symbol', symbol, '--last', '7')).toEqual(ofSymbol.slice(-7));
    const prices = fills.map(({ price }) => Number(price)).sort((a, b) => a - b);
    const middle = prices[0]!;
    const where = `price > ${middle} and symbol = '${symbol}' or wal_lsn = ${all[7]!.wal_lsn}`;
    const expected = all.filter(
      (row) => (Number(row.price) > middle && row.symbol === symbol) || row.wal_lsn === all[7]!.wal_lsn,
    );
    expect(expected.length).toBeGreaterThan(1);
    expect(await once('--where', where, '--last', '99999')).toEqual(expected);
    // Two conditions must both be met.
    expect(await once('--where', where, '--where', 'price < 0')).toEqual([]);
  }, 60_000);

  test('as text: time, topic, number and columns in one line', async () => {
    const { output } = await run(['tap', recorder.walDir, '--once', '--topic', 'fills', '--last', '1']);
    const fill = all.findLast(({ topic }) => topic === 'fills')!;
    expect(output.split('\n')).toHaveLength(2);
    expect(output).toStartWith(`${fill['ingest_ts']} fills #${fill.wal_lsn} `);
    expect(output).toContain(` price=${fill.price} `);
  }, 20_000);

  test.each([
    [['--topic', 'fill'], 'fills'],
    [['--where', 'prize > 1'], 'price'],
    [['--where', 'price >'], 'character 8'],
    [['--topic', 'gaps', '--where', 'price > 1'], 'no topic has a column price'],
    [['--last', 'x'], '--last x'],
  ])(
    '%p is refused with what would do',
    async (flags, text) => {
      const { code, errors } = await run(['tap', recorder.walDir, '--once', ...flags]);
      expect([code, errors]).toEqual([1, expect.stringContaining(text)]);
    },
    20_000,
  );
});

describe('tap', () => {
  function startTap(...flags: string[]) {
    const command = [...recorderCommand, 'tap', recorder.walDir, '--json', ...flags];
    return Bun.spawn(command, { env: cleanEnvironment(), stdout: 'pipe', stderr: 'pipe' });
  }

  test('follows the recorder over segments: every row once, from where it began', async () => {
    const [everything, fills] = [startTap('--last', '1'), startTap('--last', '1', '--topic', 'fills')];
    // The first row says that it is at the end of the WAL.
    const outputs = ['', ''];
    const reading = [everything, fills].map(async (child, index) => {
      const decoder = new TextDecoder();
      for await (const chunk of child.stdout) outputs[index] += decoder.decode(chunk, { stream: true });
    });
    await until(() => outputs.every((output) => output.includes('\n')), 'the first row');
    await feed(2);
    const now = rowsOf((await run(['wal', 'dump', recorder.walDir])).output);
    const expected = now.slice(all.length - 1);
    const count = (text: string) => text.split('\n').length - 1;
    await until(
      () => count(outputs[0]!) >= expected.length,
      () => `${count(outputs[0]!)} of ${expected.length}`,
    );
    const lastFill = all.findLastIndex(({ topic }) => topic === 'fills');
    const wantedFills = now.slice(lastFill).filter(({ topic }) => topic === 'fills');
    await until(() => count(outputs[1]!) >= wantedFills.length, 'all fills');
    for (const child of [everything, fills]) child.kill('SIGINT');
    await Promise.all(reading);
    expect(await Promise.all([everything.exited, fills.exited])).toEqual([0, 0]);
    expect(rowsOf(outputs[0]!)).toEqual(expected);
    expect(rowsOf(outputs[1]!)).toEqual(wantedFills);
    all = now;
  }, 60_000);

  test('ends after --limit rows, and when nobody reads', async () => {
    const child = startTap('--last', '5', '--limit', '3');
    expect(rowsOf(await new Response(child.stdout).text())).toEqual(all.slice(-3));
    expect(await child.exited).toBe(0);
    const piped = Bun.spawn(
      [
        'sh',
        '-c',
        `${recorderCommand.join(' ')} tap ${recorder.walDir} --json --last 100000 --limit 100000 | head -1`,
      ],
      { env: cleanEnvironment(), stdout: 'pipe', stderr: 'pipe' },
    );
    const reading = new Response(piped.stdout).text();
    await feed(3);
    expect(rowsOf(await reading)).toHaveLength(1);
  }, 60_000);
});
