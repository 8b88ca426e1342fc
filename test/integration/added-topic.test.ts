// Adding a topic is adding a .fbs: a copy of the program gets one more schema file, with every kind of field,
// and no other change; after `generate` it records the topic into ClickHouse. The WAL that it opens was
// begun by the program without the topic.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { copyFileSync, cpSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Row } from '../../src/schema/build-frame.ts';
import { createFrameBuilder } from '../../src/schema/build-frame.ts';
import { allTypes } from '../support/all-types.ts';
import { connectRaw } from '../support/raw-connection.ts';
import {
  cleanEnvironment,
  ownRows,
  reconcileWithOwn,
  run,
  sql,
  sqlValue,
  startRecorderProcess,
  temporaryHome,
} from '../support/recorder-process.ts';
import { hasFlatc, projectDir } from '../support/schemas.ts';

const home = temporaryHome();
const copy = join(home.path, 'copy');
const command = [process.execPath, join(copy, 'src/main.ts')];

beforeAll(() => {
  if (!hasFlatc) return;
  mkdirSync(join(copy, 'docs'), { recursive: true });
  for (const name of ['src', 'schemas', 'package.json', 'tsconfig.json']) {
    cpSync(join(projectDir, name), join(copy, name), { recursive: true });
  }
  symlinkSync(join(projectDir, 'node_modules'), join(copy, 'node_modules'));
  const schema = join(projectDir, 'test/golden/all-types/schemas/all_types.fbs');
  copyFileSync(schema, join(copy, 'schemas/all_types.fbs'));
}, 60_000);
afterAll(() => home[Symbol.dispose]());

/** A row with a value in every column, and what SQL must show. */
const FULL: [column: string, value: unknown, shown: string][] = [
  ['b_plain', true, '1'],
  ['b_default', false, '0'],
  ['b_null', true, '1'],
  ['i8_plain', -128, '-128'],
  ['u8_default', 255, '255'],
  ['u8_null', 7, '7'],
  ['i16_default', -32_768, '-32768'],
  ['u16_null', 65_535, '65535'],
  ['day', 19_723, '2024-01-01'],
  ['i32_default', -(2 ** 31), '-2147483648'],
  ['small_price', -12_345, '-1.2345'],
  ['u32_null', 2 ** 32 - 1, '4294967295'],
  ['second', 1_704_067_199, '2023-12-31 23:59:59'],
  ['address', 0x7f000001, '127.0.0.1'],
  ['i64_plain', -(2n ** 63n), '-9223372036854775808'],
  ['i64_default', 2n ** 63n - 1n, '9223372036854775807'],
  ['u64_default', 2n ** 64n - 1n, '18446744073709551615'],
  ['u64_null', 0n, '0'],
  ['milli', 1_704_067_199_123n, '2023-12-31 23:59:59.123'],
  ['f32_default', -0.5, '-0.5'],
  ['f32_null', 1e30, '1e30'],
  ['f64_default', 0.1, '0.1'],
  ['f64_null', -1e300, '-1e300'],
  ['tiny', -1, '-1'],
  ['tiny_null', 100, '100'],
  ['wide', 2n ** 64n - 1n, '18446744073709551615'],
  ['text', 'grüße', 'grüße'],
  ['text_null', '', ''],
  ['label', 'label', 'label'],
  ['bools', [1, 0, 1], '[1,0,1]'],
  ['i8s', [-128, 127], '[-128,127]'],
  ['u8s', [0, 255], '[0,255]'],
  ['i16s', [-32_768], '[-32768]'],
  ['u16s', [19_723], "['2024-01-01']"],
  ['i32s', [-199, 200], '[-1.99,2]'],
  ['u32s', [2 ** 32 - 1], '[4294967295]'],
  ['i64s', [1n], "['1970-01-01 00:00:00.000000001']"],
  ['u64s', [2n ** 64n - 1n, 0n], '[18446744073709551615,0]'],
  ['f32s', [0.5], '[0.5]'],
  ['f64s', [0.1, -0.1], '[0.1,-0.1]'],
  ['tinies', [-1, 0, 1], '[-1,0,1]'],
];

/** What a row with nothing in it shows, where that is neither 0 nor empty. */
const DEFAULTS: Record<string, string | null> = {
  b_default: '1',
  u8_default: '200',
  i16_default: '-1234',
  i32_default: '-70000',
  i64_default: '-9223372036854775808',
  u64_default: '9223372036854775807',
  f32_default: '1.5',
  f64_default: '-0.25',
  wide: '1',
  text: '',
  u64s: '[]',
  text_null: null,
  b_null: null,
  u8_null: null,
  u16_null: null,
  u32_null: null,
  u64_null: null,
  f32_null: null,
  f64_null: null,
  tiny_null: null,
};

describe.skipIf(!hasFlatc)('a topic more', () => {
  test('one generate makes it', async () => {
    const generated = Bun.spawnSync([process.execPath, 'src/schema/generate.ts'], {
      cwd: copy,
      env: cleanEnvironment(),
    });
    expect({ code: generated.exitCode, errors: generated.stderr.toString() }).toEqual({
      code: 0,
      errors: '',
    });
    const ddl = await run<{ tables: { topic: string; sql: string }[] }>(
      ['schema', 'ddl', '--topic', 'all_types', '--json'],
      { command, cwd: copy },
    );
    expect(ddl.json.tables).toHaveLength(1);
    expect(ddl.json.tables[0]!.sql).toContain('`hft`.`all_kinds`');
    expect((await run(['schema', 'ddl', '--topic', 'all_types'])).errors).toContain(
      'there is no topic all_types',
    );
  }, 60_000);

  test('its rows are in ClickHouse, beside those of the WAL that knew nothing of it', async () => {
    const before = await startRecorderProcess(home.path, { env: { HFT_DISABLE_CLICKHOUSE: '1' } });
    const fed = await run(['feed', 'sim', '--rows', '3000', '--socket', before.socket, '--json']);
    expect(fed.json).toMatchObject({ sent: 3000, acked: 3000 });
    expect((await before.end('SIGTERM')).code).toBe(0);

    const recorder = await startRecorderProcess(home.path, { command, cwd: copy, flags: ['--embedded'] });
    try {
      const builder = createFrameBuilder(allTypes.model);
      const full: Row = Object.fromEntries(FULL.map(([column, value]) => [column, value]));
      const empty: Row = { text: '', u64s: [] };
      const connection = await connectRaw(recorder.socket);
      await connection.write(Buffer.concat([full, empty].map((row) => builder.buildSizePrefixed(row))));
      connection.end();
      const more = await run(['feed', 'sim', '--rows', '3000', '--socket', recorder.socket, '--json']);
      expect(more.json).toMatchObject({ sent: 3000, acked: 3000 });

      // By the copy: the program without the topic has no name for it.
      const flags = ['reconcile', '--wal-dir', recorder.walDir, '--json', '--wait', '60'];
      const { code, json } = await run<{ topics: Record<string, unknown> }>(flags, { command });
      const total = 6002 + (await ownRows(recorder.clickhouseUrl));
      expect({ code, ...json }).toMatchObject({
        code: 0,
        received: total,
        logged: total,
        inserted: total,
        matches: true,
      });
      expect(json.topics['all_types']).toMatchObject({ received: 2, logged: 2, inserted: 2 });

      const columns = FULL.map(([column]) => column).join(', ');
      const [fullRow, emptyRow] = await sql(
        recorder.clickhouseUrl,
        `SELECT ${columns} FROM hft.all_kinds ORDER BY seq`,
      );
      const shownFull = FULL.map(([column], i) => [column, fullRow![i]]);
      expect(shownFull).toEqual(FULL.map(([column, , shown]) => [column, shown]));
      for (const [i, [column]] of FULL.entries()) {
        const shown = DEFAULTS[column];
        if (shown !== undefined) expect([column, emptyRow![i]]).toEqual([column, shown]);
        else
          expect([column, emptyRow![i]]).toEqual([
            column,
            expect.stringMatching(/^(0|0\.0\.0\.0|\[\]||1970.*)$/),
          ]);
      }
      const names = 'SELECT groupArray(tiny_name) FROM (SELECT tiny_name FROM hft.all_kinds ORDER BY seq)';
      expect(await sqlValue(recorder.clickhouseUrl, names)).toBe("['minus','zero']");

      const dump = await run(['wal', 'dump', recorder.walDir, '--topic', 'all_types']);
      const rows = dump.output
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(rows).toHaveLength(2);
      expect(rows[0]).toMatchObject({
        topic: 'all_types',
        text: 'grüße',
        small_price: '-1.2345',
        tiny: 'minus',
      });
      expect((await recorder.end('SIGTERM')).code).toBe(0);
    } finally {
      await recorder.end('SIGKILL');
    }
  }, 120_000);

  test('the program without the topic opens that WAL again and records', async () => {
    const recorder = await startRecorderProcess(home.path, { flags: ['--embedded'] });
    try {
      const fed = await run(['feed', 'sim', '--rows', '1000', '--socket', recorder.socket, '--json']);
      expect(fed.json).toMatchObject({ sent: 1000, acked: 1000 });
      const { code, json, own } = await reconcileWithOwn(recorder.walDir, recorder.clickhouseUrl);
      expect({ code, ...json }).toMatchObject({ code: 0, inserted: 7002 + own, lost: 0, duplicated: 0 });
    } finally {
      expect((await recorder.end('SIGTERM')).code).toBe(0);
    }
  }, 120_000);
});
