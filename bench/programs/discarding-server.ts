// A ClickHouse that stores nothing: the body of an INSERT is read and dropped, everything else goes to a real
// server. With it the client's side is what bounds a path. Argument: the real server's URL. Says `ready` and
// its port; runs until it is killed. GET /last says when the last INSERT ended (monotonic clock, ns).

import { monotonicNs } from '../support/posix.ts';

const target = process.argv[2]!;
let last = { inserts: 0, bytes: 0, endNs: 0 };

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  idleTimeout: 0,
  maxRequestBodySize: 2 ** 33,
  async fetch(request) {
    const url = new URL(request.url);
    if (url.pathname === '/last') return Response.json(last);
    if (/^\s*INSERT/i.test(url.searchParams.get('query') ?? '')) return await discard(request);
    const forwarded = await fetch(`${target}${url.pathname}${url.search}`, {
      method: request.method,
      headers: { authorization: request.headers.get('authorization') ?? '' },
      ...(request.method === 'POST' ? { body: await request.arrayBuffer() } : {}),
    });
    const headers = new Headers(forwarded.headers);
    headers.delete('content-encoding');
    headers.delete('content-length');
    return new Response(await forwarded.arrayBuffer(), { status: forwarded.status, headers });
  },
});

async function discard(request: Request): Promise<Response> {
  let bytes = 0;
  if (request.body !== null) for await (const chunk of request.body) bytes += chunk.length;
  const endNs = monotonicNs();
  last = { inserts: last.inserts + 1, bytes: last.bytes + bytes, endNs };
  return new Response('');
}

process.stdout.write(`ready\n${server.port}\n`);
