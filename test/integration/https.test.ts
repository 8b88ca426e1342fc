// ClickHouse behind https: a CA of our own, and a server that asks who its clients are.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import { ownRows, run, startRecorderProcess, temporaryHome } from '../support/recorder-process.ts';

const home = temporaryHome();
const at = (name: string) => join(home.path, name);
let server: TestServer;
let requests = 0;
let proxies: Bun.Server<undefined>[] = [];

function openssl(...args: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(['openssl', ...args], { cwd: home.path, stderr: 'pipe' });
  if (exitCode !== 0) throw new Error(stderr.toString());
}

/** A CA, and a certificate that it has signed for `subject`. */
function makeCa(name: string): void {
  openssl(
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
    ...['-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.pem`],
  );
}
function makeCertificate(ca: string, name: string): void {
  writeFileSync(at(`${name}.ext`), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  openssl(
    ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', `/CN=${name}`],
    ...['-keyout', `${name}.key`, '-out', `${name}.csr`],
  );
  openssl(
    ...['x509', '-req', '-in', `${name}.csr`, '-CA', `${ca}.pem`, '-CAkey', `${ca}.key`, '-CAcreateserial'],
    ...['-days', '2', '-extfile', `${name}.ext`, '-out', `${name}.pem`],
  );
}

/** An https server before the embedded one. */
function startProxy(asksClients: boolean): string {
  const pem = (name: string) => readFileSync(at(name), 'utf8');
  const proxy = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    maxRequestBodySize: 2 ** 30,
    tls: {
      cert: pem('server.pem'),
      key: pem('server.key'),
      ...(asksClients ? { ca: pem('ca.pem'), requestCert: true, rejectUnauthorized: true } : {}),
    },
    fetch: async (request) => {
      requests++;
      const url = new URL(request.url);
      const target = `${server.url}${url.pathname}${url.search}`;
      const body = request.method === 'POST' ? await request.arrayBuffer() : null;
      const { status, headers, ...answer } = await fetch(target, { method: request.method, body }).then(
        async (response) => ({
          status: response.status,
          headers: response.headers,
          bytes: await response.arrayBuffer(),
        }),
      );
      for (const name of ['content-length', 'transfer-encoding', 'content-encoding']) headers.delete(name);
      return new Response(answer.bytes, { status, headers });
    },
  });
  proxies.push(proxy);
  return `https://localhost:${proxy.port}`;
}

beforeAll(async () => {
  makeCa('ca');
  makeCa('other-ca');
  makeCertificate('ca', 'server');
  makeCertificate('ca', 'client');
  server = await startTestServer();
}, 60_000);
afterAll(async () => {
  for (const proxy of proxies) proxy.stop(true);
  proxies = [];
  await server.close();
  home[Symbol.dispose]();
}, 60_000);

const withCa = (url: string, ca = 'ca') => ({
  HFT_CLICKHOUSE_HOST: url,
  HFT_CLICKHOUSE_CA_FILE: at(`${ca}.pem`),
});
const withClient = (url: string) => ({
  ...withCa(url),
  HFT_CLICKHOUSE_CERT_FILE: at('client.pem'),
  HFT_CLICKHOUSE_KEY_FILE: at('client.key'),
});

/** What the doctor says of ClickHouse: the level of the worst finding. */
async function examine(env: Record<string, string>): Promise<string> {
  const { json } = await run<{ findings: { check: string; level: string; message: string }[] }>(
    ['doctor', '--json', '--wal-dir', at('none'), '--socket', at('s')],
    { env },
  );
  const found = json.findings.filter(({ check }) => check === 'clickhouse');
  return found.find(({ level }) => level !== 'ok')?.message ?? 'ok';
}

describe('https', () => {
  test('the server must have a certificate of the CA', async () => {
    const url = startProxy(false);
    expect(await examine(withCa(url))).toBe('ok');
    const before = requests;
    expect(await examine({ HFT_CLICKHOUSE_HOST: url })).toContain(url);
    expect(await examine(withCa(url, 'other-ca'))).toContain(url);
    expect(requests).toBe(before);
  }, 60_000);

  test('a server that asks for certificates gets the rows of a recorder that has one', async () => {
    const url = startProxy(true);
    expect(await examine(withClient(url))).toBe('ok');
    const before = requests;
    expect(await examine(withCa(url))).toContain(url);
    expect(requests).toBe(before);
    const env = { ...withClient(url), HFT_CLICKHOUSE_DATABASE: 'tls' };
    const recorder = await startRecorderProcess(home.path, { env });
    expect((await run(['feed', 'sim', '--rows', '2000', '--socket', recorder.socket])).code).toBe(0);
    const proof = await run(['reconcile', '--wal-dir', recorder.walDir, '--json', '--wait', '60'], { env });
    expect(proof).toMatchObject({ code: 0, json: { lost: 0, duplicated: 0, matches: true } });
    expect(Number(proof.json['inserted'])).toBe(2000 + (await ownRows(server.url, 'tls')));
    expect((await recorder.end('SIGTERM')).code).toBe(0);
  }, 60_000);

  test.each([
    [{ HFT_CLICKHOUSE_CA_FILE: '/no/such/file' }, 'HFT_CLICKHOUSE_CA_FILE=/no/such/file cannot be read'],
    [{ HFT_CLICKHOUSE_CERT_FILE: '/x' }, 'a CA alone, or CA, certificate and key'],
    [{ HFT_CLICKHOUSE_CA_FILE: import.meta.path }, 'is no PEM file'],
  ])(
    '%p is an error that says so',
    async (files, text) => {
      const env = { ...files, HFT_CLICKHOUSE_HOST: 'https://localhost:1' };
      expect(await examine(env)).toContain(text);
    },
    20_000,
  );
});
