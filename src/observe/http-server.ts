// The HTTP server for people and machines that watch a recorder: metrics, health, status, the page.
//
// Invariants
// - Without a token it serves loopback addresses only; with one, every request carries it, compared in
//   constant time.
// - Nothing here changes what is recorded. The few requests that change anything (an acknowledgement) are
//   POST, and carry a header that a foreign web page cannot send.
// - Whatever comes in, the answer is an answer: errors of a handler are a 500 with no details in it.
//
// Life cycle: startHttpServer → requests → stop.

import { RecorderError } from '../errors.ts';
import { isAllowedHost, isLoopback, presentsToken } from './http-guard.ts';

/** Answers one path. */
export type RouteHandler = (request: Request, url: URL) => Response | Promise<Response>;
/** Handlers by method and path: 'GET /metrics'. A path that ends with * takes all that begin with it. */
export type Routes = Readonly<Record<string, RouteHandler>>;

export interface HttpOptions {
  host: string;
  /** 0: any free port. */
  port: number;
  /** The token of the moment, asked at each request; empty: none. */
  token(): string;
  routes: Routes;
  onError(error: unknown): void;
}

export interface HttpServer {
  /** `http://host:port`, with the port that was given. */
  readonly url: string;
  readonly port: number;
  stop(): void;
}

const MAX_BODY_BYTES = 64 * 1024;
const IDLE_TIMEOUT_SECONDS = 30;
/** Header that a POST must carry: a page of another origin cannot send it without being asked for leave. */
const ACTION_HEADER = 'x-recorder-action';

const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
};

/** An address as in HFT_RECORDER_HTTP: `host:port`, `[v6]:port`, `:port` or `port`. */
export function parseHttpAddress(text: string): { host: string; port: number } {
  const parts = /^(?:(?:\[([0-9a-f:.]+)\]|([^:\s]*)):)?(\d{1,5})$/i.exec(text.trim());
  const port = Number(parts?.[3]);
  if (parts === null || port > 65_535) {
    throw new RecorderError('http_address_invalid', `HTTP address "${text}" is not host:port`, {
      hint: 'for example HFT_RECORDER_HTTP=127.0.0.1:9464; empty turns the HTTP server off',
    });
  }
  return { host: parts[1] ?? (parts[2] || '127.0.0.1'), port };
}

/**
 * Starts the server.
 * @throws RecorderError: http_not_loopback without a token on another address, http_port_in_use,
 * http_listen_failed
 */
export function startHttpServer(options: HttpOptions): HttpServer {
  const { host } = options;
  if (options.token() === '' && !isLoopback(host)) {
    throw new RecorderError(
      'http_not_loopback',
      `HTTP on ${host} needs a token: it is not a loopback address`,
      {
        hint: 'set HFT_RECORDER_HTTP_TOKEN_FILE to a file with a secret, or listen on 127.0.0.1',
      },
    );
  }
  try {
    const server = Bun.serve({
      hostname: host,
      port: options.port,
      idleTimeout: IDLE_TIMEOUT_SECONDS,
      maxRequestBodySize: MAX_BODY_BYTES,
      development: false,
      fetch: (request) => answer(request, isLoopback(host), options),
      error: (error) => {
        options.onError(error);
        return withHeaders(new Response('internal error\n', { status: 500 }));
      },
    });
    const port = server.port!;
    const shownHost = host.includes(':') ? `[${host}]` : host;
    return { url: `http://${shownHost}:${port}`, port, stop: () => void server.stop(true) };
  } catch (cause) {
    throw listenFailed(host, options.port, cause);
  }
}

function listenFailed(host: string, port: number, cause: unknown): RecorderError {
  if ((cause as { code?: string }).code === 'EADDRINUSE') {
    return new RecorderError('http_port_in_use', `HTTP port ${port} on ${host} is in use`, {
      hint: `see who has it: ss -ltnp sport = :${port}; or choose another: HFT_RECORDER_HTTP=${host}:0`,
    });
  }
  return new RecorderError('http_listen_failed', `cannot listen for HTTP on ${host}:${port}`, { cause });
}

async function answer(
  request: Request,
  isLocal: boolean,
  { token, routes, onError }: HttpOptions,
): Promise<Response> {
  try {
    const refusal = refuse(request, token(), isLocal);
    if (refusal !== null) return withHeaders(refusal);
    const url = new URL(request.url);
    const handler = handlerOf(routes, request.method, url.pathname);
    if (handler !== null) return withHeaders(await handler(request, url));
    const isKnown = ['GET', 'POST'].some((method) => handlerOf(routes, method, url.pathname) !== null);
    return withHeaders(text(isKnown ? 405 : 404, isKnown ? 'method not allowed' : 'not found'));
  } catch (error) {
    onError(error);
    return withHeaders(text(500, 'internal error'));
  }
}

/** Why a request is not served, null where it is. */
function refuse(request: Request, token: string, isLocal: boolean): Response | null {
  // A token that was taken away opens the door to this host alone, never to others.
  if (token !== '' || !isLocal) {
    if (token === '' || !presentsToken(request.headers.get('authorization'), token)) {
      return new Response('unauthorized\n', {
        status: 401,
        // Basic alone: Chromium reads a second scheme in the same line as part of the first and asks nobody.
        headers: { 'www-authenticate': 'Basic realm="recorder", charset="UTF-8"' },
      });
    }
  } else if (!isAllowedHost(request.headers.get('host') ?? '')) {
    return text(421, 'not served under this host name');
  }
  const isRead = request.method === 'GET' || request.method === 'HEAD';
  if (!isRead && request.headers.get(ACTION_HEADER) === null)
    return text(403, `needs header ${ACTION_HEADER}`);
  return null;
}

function handlerOf(routes: Routes, method: string, path: string): RouteHandler | null {
  const verb = method === 'HEAD' ? 'GET' : method;
  const exact = routes[`${verb} ${path}`];
  if (exact !== undefined) return exact;
  for (const [pattern, handler] of Object.entries(routes)) {
    if (pattern.endsWith('*') && `${verb} ${path}`.startsWith(pattern.slice(0, -1))) return handler;
  }
  return null;
}

function text(status: number, message: string): Response {
  return new Response(`${message}\n`, { status });
}

function withHeaders(response: Response): Response {
  for (const [name, value] of Object.entries(SECURITY_HEADERS)) {
    if (!response.headers.has(name)) response.headers.set(name, value);
  }
  return response;
}
