import { afterEach, describe, expect, test } from 'bun:test';
import { equalSecrets, isAllowedHost, isLoopback } from '../../src/observe/http-guard.ts';
import {
  type HttpOptions,
  type HttpServer,
  parseHttpAddress,
  startHttpServer,
} from '../../src/observe/http-server.ts';

const servers: HttpServer[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.stop();
});

function start(options: Partial<HttpOptions> = {}): { url: string; errors: unknown[] } {
  const errors: unknown[] = [];
  const server = startHttpServer({
    host: '127.0.0.1',
    port: 0,
    token: () => '',
    routes: {
      'GET /metrics': () => new Response('m 1\n'),
      'POST /act': () => new Response('done\n'),
      'GET /files/*': (_request, url) => new Response(url.pathname),
      'GET /broken': () => {
        throw new Error('secret detail');
      },
    },
    onError: (error) => errors.push(error),
    ...options,
  });
  servers.push(server);
  return { url: server.url, errors };
}

const status = async (url: string, init?: RequestInit) => (await fetch(url, init)).status;

describe('addresses', () => {
  test.each([
    ['127.0.0.1:9464', '127.0.0.1', 9464],
    ['[::1]:80', '::1', 80],
    [':9464', '127.0.0.1', 9464],
    ['9464', '127.0.0.1', 9464],
    ['localhost:0', 'localhost', 0],
  ])('%s', (text, host, port) => {
    expect(parseHttpAddress(text)).toEqual({ host, port });
  });

  test.each(['127.0.0.1', 'x:y', '1.2.3.4:99999', 'a b:1', ''])('"%s" is refused', (text) => {
    expect(() => parseHttpAddress(text)).toThrow('is not host:port');
  });

  test('which are loopback', () => {
    for (const host of ['127.0.0.1', '127.9.9.9', 'localhost', '::1']) expect(isLoopback(host)).toBe(true);
    for (const host of ['0.0.0.0', '::', '10.0.0.1', '127.0.0.1.evil.com', 'example.com'])
      expect(isLoopback(host)).toBe(false);
  });

  test('which Host headers are answered without a token', () => {
    for (const header of ['127.0.0.1:9464', 'localhost', '[::1]:9464'])
      expect(isAllowedHost(header)).toBe(true);
    for (const header of ['evil.com:9464', '', 'localhost.evil.com', '127.0.0.1.nip.io:80'])
      expect(isAllowedHost(header)).toBe(false);
  });
});

describe('requests', () => {
  test('are answered with strict headers', async () => {
    const { url } = start();
    const response = await fetch(`${url}/metrics`);
    expect([response.status, await response.text()]).toEqual([200, 'm 1\n']);
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    expect(response.headers.get('x-frame-options')).toBe('DENY');
    expect(response.headers.get('access-control-allow-origin')).toBeNull();
  });

  test('unknown paths, methods and junk get an answer, and the server goes on', async () => {
    const { url } = start();
    for (const path of [
      '/',
      '/%00',
      '/..%2f..%2fetc/passwd',
      '/metrics/',
      `/${'a'.repeat(5000)}`,
      '/FILES/x',
    ])
      expect(await status(`${url}${path}`)).toBe(404);
    expect(await status(`${url}/metrics`, { method: 'DELETE' })).toBe(403);
    expect(await status(`${url}/act`)).toBe(405);
    expect(await status(`${url}/files/a/b`)).toBe(200);
    expect(await status(`${url}/metrics`, { method: 'HEAD' })).toBe(200);
    expect(await status(`${url}/metrics`)).toBe(200);
  });

  test('what changes something needs the header that a foreign page cannot send', async () => {
    const { url } = start();
    expect(await status(`${url}/act`, { method: 'POST' })).toBe(403);
    expect(await status(`${url}/act`, { method: 'POST', headers: { 'x-recorder-action': '1' } })).toBe(200);
  });

  test('a body beyond the limit is refused', async () => {
    const { url } = start();
    const init = { method: 'POST', body: 'x'.repeat(200_000), headers: { 'x-recorder-action': '1' } };
    expect(await status(`${url}/act`, init)).toBe(413);
  });

  test('an error of a handler is a 500 without its text', async () => {
    const { url, errors } = start();
    const response = await fetch(`${url}/broken`);
    expect([response.status, await response.text()]).toEqual([500, 'internal error\n']);
    expect(errors).toHaveLength(1);
  });

  test('a foreign host name is not served', async () => {
    const { url } = start();
    expect(await status(`${url}/metrics`, { headers: { host: 'evil.example' } })).toBe(421);
  });
});

describe('a token', () => {
  const basic = (password: string) => `Basic ${Buffer.from(`anyone:${password}`).toString('base64')}`;

  test('is needed for every path, as Bearer or as the password of Basic', async () => {
    const { url } = start({ token: () => 's3cret' });
    const get = (authorization?: string) =>
      status(`${url}/metrics`, authorization === undefined ? {} : { headers: { authorization } });
    for (const wrong of [undefined, '', 'Bearer', 'Bearer s3cre', 'Bearer s3crets', 's3cret', basic('no')])
      expect(await get(wrong)).toBe(401);
    expect(await status(`${url}/nothing`)).toBe(401);
    expect(await get('Bearer s3cret')).toBe(200);
    expect(await get(basic('s3cret'))).toBe(200);
  });

  test('is needed to listen on an address that is not loopback', () => {
    expect(() => start({ host: '0.0.0.0' })).toThrow('needs a token');
    expect(() => start({ host: '0.0.0.0', token: () => 'x' })).not.toThrow();
  });

  test('may change while the server runs; without one, others than this host are not served', async () => {
    let token = 'old';
    const { url } = start({ host: '0.0.0.0', token: () => token });
    const get = (bearer: string) =>
      status(`${url.replace('0.0.0.0', '127.0.0.1')}/metrics`, {
        headers: { authorization: `Bearer ${bearer}` },
      });
    expect([await get('old'), await get('new')]).toEqual([200, 401]);
    token = 'new';
    expect([await get('old'), await get('new')]).toEqual([401, 200]);
    token = '';
    expect([await get('old'), await get('new'), await get('')]).toEqual([401, 401, 401]);
  });

  test('is compared by digest: length and content of the secret do not show', () => {
    expect(equalSecrets('a', 'a')).toBe(true);
    for (const other of ['', 'b', 'aa', 'A']) expect(equalSecrets(other, 'a')).toBe(false);
  });
});
