import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { createClient } from '@clickhouse/client';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import { seededRandom } from '../support/random.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.close());

/** Sends `sql` as a body; the answer as text. */
async function post(sql: string | Uint8Array<ArrayBuffer>, parameters: Record<string, string> = {}) {
  const response = await fetch(`${server.url}/?${new URLSearchParams(parameters)}`, {
    method: 'POST',
    body: sql,
  });
  const { status, headers } = response;
  return { status, headers, body: await response.text() };
}
const one = async (sql: string) => (await post(sql)).body.trim();

/** Rows of (UInt64, String) in RowBinary, written without any code of the project. */
function rowBinary(rows: readonly [bigint, Uint8Array][]): Buffer<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  for (const [number, text] of rows) {
    const head = Buffer.alloc(9);
    head.writeBigUInt64LE(number);
    head[8] = text.length; // texts here are shorter than 128 bytes
    parts.push(head, text);
  }
  return Buffer.concat(parts);
}

describe('bytes', () => {
  test('of a binary insert come back as they were sent, with zeroes, quotes and invalid UTF-8', async () => {
    const random = seededRandom('binary insert');
    const rows = Array.from({ length: 3000 }, (_, i): [bigint, Uint8Array] => [
      BigInt(i),
      random.bytes(random.int(0, 100)),
    ]);
    const bytes = rowBinary(rows);
    await post('CREATE TABLE exact (n UInt64, s String) ENGINE = MergeTree ORDER BY n');
    const sent = await fetch(`${server.url}/?query=INSERT+INTO+exact+FORMAT+RowBinary`, {
      method: 'POST',
      body: bytes,
    });
    expect(sent.status).toBe(200);
    const read = async (format: string) =>
      Buffer.from(
        await (await fetch(`${server.url}/?query=SELECT+*+FROM+exact+FORMAT+${format}`)).arrayBuffer(),
      );
    expect((await read('RowBinary')).equals(bytes)).toBe(true);

    // Native out, Native in, in one body with its query: still the same rows.
    const native = await read('Native');
    await post('CREATE TABLE copied AS exact');
    const head = Buffer.from('INSERT INTO copied FORMAT Native\n');
    expect((await post(Buffer.concat([head, native]))).status).toBe(200);
    expect(await one('SELECT count() FROM exact INNER JOIN copied USING (n, s)')).toBe('3000');
  });

  test('of a string literal reach the engine whatever they are', async () => {
    const sql = Buffer.concat([Buffer.from("SELECT hex('"), Buffer.from([0xff, 0, 0x80]), Buffer.from("')")]);
    expect((await post(sql)).body).toBe('FF0080\n');
  });

  test('may be compressed in both directions', async () => {
    const response = await fetch(`${server.url}/?enable_http_compression=1`, {
      method: 'POST',
      body: gzipSync('SELECT number FROM numbers(1000) FORMAT RowBinary'),
      headers: { 'Content-Encoding': 'gzip', 'Accept-Encoding': 'gzip' },
    });
    expect(response.headers.get('content-encoding')).toBe('gzip');
    expect((await response.arrayBuffer()).byteLength).toBe(8000);
    const broken = await fetch(server.url, {
      method: 'POST',
      body: 'no gzip',
      headers: { 'Content-Encoding': 'gzip' },
    });
    expect(broken.headers.get('x-clickhouse-exception-code')).toBe('354');
  });
});

test('@clickhouse/client pings, commands, inserts, queries and executes', async () => {
  const client = createClient({ url: server.url, compression: { request: true, response: true } });
  expect((await client.ping()).success).toBe(true);
  await client.command({ query: 'CREATE DATABASE desk' });
  await client.command({ query: 'CREATE TABLE desk.t (n UInt64, s String) ENGINE = MergeTree ORDER BY n' });
  const inserted = await client.insert({
    table: 'desk.t',
    values: [
      { n: '18446744073709551615', s: "it's" },
      { n: '2', s: 'zwölf' },
    ],
    format: 'JSONEachRow',
  });
  expect(inserted.summary?.written_rows).toBe('2');
  const bytes = rowBinary([[7n, Buffer.from('seven')]]);
  const executed = await client.exec({
    query: 'INSERT INTO desk.t FORMAT RowBinary',
    values: Readable.from([bytes.subarray(0, 5), bytes.subarray(5)], { objectMode: false }),
    query_id: 'my-insert',
  });
  executed.stream.resume();
  expect(executed.query_id).toBe('my-insert');
  const result = await client.query({
    query: 'SELECT toString(n) AS n, s FROM desk.t WHERE s != {skip:String} ORDER BY desk.t.n',
    query_params: { skip: "it's" },
    format: 'JSONEachRow',
  });
  expect(await result.json<unknown>()).toEqual([
    { n: '2', s: 'zwölf' },
    { n: '7', s: 'seven' },
  ]);
  await client.close();
});

test('a repeated deduplication token stores nothing again', async () => {
  await post(
    `CREATE TABLE once (n UInt64, s String) ENGINE = MergeTree ORDER BY n
     SETTINGS non_replicated_deduplication_window = 100`,
  );
  for (const token of ['a', 'a', 'b']) {
    const parameters = { query: 'INSERT INTO once FORMAT RowBinary', insert_deduplication_token: token };
    expect((await post(rowBinary([[1n, Buffer.from('x')]]), parameters)).status).toBe(200);
  }
  expect(await one('SELECT count() FROM once')).toBe('2');
});

test('settings, database and parameters of a request do not reach the next', async () => {
  const asked = "SELECT currentDatabase(), getSetting('max_threads'), {p:String}";
  const answer = await post(asked, { database: 'system', max_threads: '7', param_p: 'a\\tb' });
  expect(answer.body).toBe('system\t7\ta\\tb\n');
  expect(await one("SELECT currentDatabase(), getSetting('max_threads') = 7")).toBe('default\t0');
  expect((await post(asked)).headers.get('x-clickhouse-exception-code')).toBe('456');
});

describe('errors carry code, status and text of ClickHouse', () => {
  const cases: [string, Record<string, string>, number, number, RegExp][] = [
    ['SELECT missing', {}, 404, 47, /^Code: 47\. DB::Exception: .*UNKNOWN_IDENTIFIER/],
    ['SELEC 1', {}, 400, 62, /SYNTAX_ERROR/],
    ['SELECT 1; SELECT 2', {}, 400, 62, /Multi-statements/],
    ['', {}, 400, 62, /Empty query/],
    ['SELECT 1', { no_such: '1' }, 404, 115, /Unknown setting 'no_such'/],
    ['SELECT 1', { database: 'nowhere' }, 404, 81, /nowhere/],
    ['INSERT INTO nowhere FORMAT TSV\n1\n', {}, 404, 60, /nowhere/],
    ['INSERT INTO exact FORMAT RowBinary\nabc', {}, 400, 33, /CANNOT_READ_ALL_DATA/],
    ['SELECT 1 FORMAT Nothing', {}, 404, 73, /UNKNOWN_FORMAT/],
    ['SELECT throwIf(number = 3) FROM numbers(9)', {}, 500, 395, /throwIf/],
    ['SELECT 1', { session_id: 's' }, 501, 48, /session_id/],
  ];
  for (const [sql, parameters, status, code, text] of cases) {
    test(`${sql} ${JSON.stringify(parameters)}`, async () => {
      const answer = await post(sql, parameters);
      expect(answer.body).toMatch(text);
      expect(answer.status).toBe(status);
      expect(answer.headers.get('x-clickhouse-exception-code')).toBe(String(code));
    });
  }

  test('GET changes nothing', async () => {
    const response = await fetch(`${server.url}/?query=DROP+TABLE+exact`);
    expect(response.headers.get('x-clickhouse-exception-code')).toBe('164');
    await response.text();
  });
});

test('an insert whose client goes away in the middle inserts nothing', async () => {
  await post('CREATE TABLE cut (n UInt64) ENGINE = MergeTree ORDER BY n');
  const send = (head: string, body: string) =>
    new Promise<void>((resolve) => {
      const socket = connect(server.port, '127.0.0.1', () => {
        socket.write(`POST /?query=INSERT+INTO+cut+FORMAT+TSV HTTP/1.1\r\nHost: x\r\n${head}\r\n\r\n${body}`);
        setTimeout(() => socket.end(), 100);
      });
      socket.on('data', () => undefined);
      socket.on('close', () => resolve());
    });
  await send('Content-Length: 100', '1\n2\n');
  await send('Transfer-Encoding: chunked', '4\r\n1\n2\n\r\n');
  await send('Transfer-Encoding: chunked', '2\r\n3\n\r\n0\r\n\r\n');
  expect(await one('SELECT groupArray(n) FROM cut')).toBe('[3]');
});

test('a running statement blocks nothing, is seen by its client id, which cannot run twice', async () => {
  const slow = post('SELECT sum(sleepEachRow(0.25)) FROM numbers(4) SETTINGS max_block_size = 1', {
    query_id: 'slow one',
  });
  const seen = "SELECT count() FROM system.processes WHERE query_id = 'slow one'";
  while ((await one(seen)) !== '1') await Bun.sleep(5);
  expect((await post('SELECT 1', { query_id: 'slow one' })).headers.get('x-clickhouse-exception-code')).toBe(
    '216',
  );
  expect(await (await fetch(`${server.url}/ping`)).text()).toBe('Ok.\n');
  expect((await slow).body).toBe('0\n');
  expect(await one(seen)).toBe('0');
});

test('more statements than workers wait and all are answered', async () => {
  const answers = await Promise.all(Array.from({ length: 60 }, (_, i) => one(`SELECT ${i} + sleep(0.01)`)));
  expect(answers).toEqual(Array.from({ length: 60 }, (_, i) => String(i)));
});

test('summary and format are in the headers', async () => {
  const answer = await post("INSERT INTO exact VALUES (1, 'a'), (2, 'b')");
  expect(JSON.parse(answer.headers.get('x-clickhouse-summary')!)).toMatchObject({ written_rows: '2' });
  const read = await post('SELECT number FROM numbers(5)', { default_format: 'JSONEachRow', query_id: 'q7' });
  expect(read.headers.get('x-clickhouse-format')).toBe('JSONEachRow');
  expect(read.headers.get('x-clickhouse-query-id')).toBe('q7');
  expect(read.headers.get('content-type')).toStartWith('application/x-ndjson');
  expect(JSON.parse(read.headers.get('x-clickhouse-summary')!)).toMatchObject({
    read_rows: '5',
    result_rows: '5',
  });
});

describe('readonly', () => {
  const readonly = { readonly: '1', max_result_rows: '5', result_overflow_mode: 'break' };

  test('as a URL parameter goes with other settings and forbids all changes', async () => {
    expect((await post('SELECT 1', readonly)).body).toBe('1\n');
    for (const statement of [
      'CREATE TABLE default.forbidden (a UInt8) ENGINE = Memory',
      'DROP TABLE system.one',
      'SET max_result_rows = 0',
      'SELECT 1 SETTINGS readonly = 0',
      "SELECT * FROM file('/etc/hostname', 'LineAsString')",
    ]) {
      expect((await post(statement, readonly)).headers.get('x-clickhouse-exception-code')).toBe('164');
    }
  });

  test('of a GET cannot be switched off', async () => {
    const query = encodeURIComponent('CREATE TABLE default.forbidden (a UInt8) ENGINE = Memory');
    const response = await fetch(`${server.url}/?readonly=0&query=${query}`);
    expect(response.headers.get('x-clickhouse-exception-code')).toBe('164');
    await response.text();
  });

  test('INTO OUTFILE writes no file on the server', async () => {
    const { headers, body } = await post("SELECT 1 INTO /* no */ OUTFILE '/nowhere/x'", readonly);
    expect(headers.get('x-clickhouse-exception-code')).toBe('358');
    expect(body).toContain('INTO OUTFILE is not allowed');
  });
});
