// A TCP proxy before an HTTP server that breaks requests at a chosen point: before, inside and after the
// body, before and inside the answer; or hangs, delays, answers 500 itself, or is not there at all.
//
// A request is held until it is complete, so that the point of the break is exact. A connection to the
// server belongs to one connection of a client: what the proxy cuts, the server sees cut too, except with
// `cut_after_body`, where the server goes on with a client that is gone.

import { createServer, connect as dial, type Server, type Socket } from 'node:net';
import type { SeededRandom } from './random.ts';

export const FAULTS = [
  'cut_before_request',
  'cut_before_body',
  'cut_inside_body',
  'cut_after_body',
  'cut_before_answer',
  'cut_inside_answer',
  'hang_before_body',
  'hang_inside_body',
  'hang_before_answer',
  'answer_500',
  'delay',
] as const;
/** `slow`: the server gets the request when the pace of all of them allows, even when the client is gone. */
export type Fault = (typeof FAULTS)[number] | 'none' | 'slow';

/** An error that the proxy answers in ClickHouse's words, without asking the server. */
export interface Refusal {
  code: number;
  message: string;
}

export interface ProxiedRequest {
  method: string;
  /** Path with the query string, decoded. */
  target: string;
  isInsert: boolean;
  bodySizeBytes: number;
}

export interface FaultProxyOptions {
  /** `http://host:port` of the real server. */
  target: string;
  random: SeededRandom;
  /** What happens to a request; may be replaced while the proxy runs. */
  choose: (request: ProxiedRequest) => Fault | Refusal;
  /** Longest delay, default 300 ms. */
  maxDelayMs?: number;
}

export interface FaultProxy {
  readonly url: string;
  readonly port: number;
  /** How often each fault happened. */
  readonly counts: Map<Fault, number>;
  choose: FaultProxyOptions['choose'];
  /** Pace of the requests that are `slow`, over all connections. */
  bytesPerSecond: number;
  /** Refuses connections and cuts those that are open, until `up`. */
  down(): Promise<void>;
  up(): Promise<void>;
  close(): Promise<void>;
}

/** Starts a proxy on a free port. */
export async function startFaultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const sockets = new Set<Socket>();
  const counts = new Map<Fault, number>();
  let server: Server | null = null;
  let port = 0;
  let nextSlowMs = 0;
  const pace = async (sizeBytes: number) => {
    const nowMs = performance.now();
    nextSlowMs = Math.max(nowMs, nextSlowMs) + (sizeBytes / proxy.bytesPerSecond) * 1000;
    await Bun.sleep(nextSlowMs - nowMs);
  };
  const proxy: FaultProxy = {
    bytesPerSecond: Number.POSITIVE_INFINITY,
    get url() {
      return `http://127.0.0.1:${port}`;
    },
    get port() {
      return port;
    },
    counts,
    choose: options.choose,
    async down() {
      const closing = server;
      server = null;
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => (closing === null ? resolve() : closing.close(() => resolve())));
    },
    async up() {
      server = createServer((client) => {
        const choose = (request: ProxiedRequest) => {
          const fault = proxy.choose(request);
          const name = typeof fault === 'string' ? fault : 'answer_500';
          counts.set(name, (counts.get(name) ?? 0) + 1);
          return fault;
        };
        new ProxiedConnection(client, { ...options, choose }, sockets, pace);
      });
      await new Promise<void>((resolve, reject) => {
        server!.once('error', reject);
        server!.listen(port, '127.0.0.1', resolve);
      });
      const address = server.address();
      if (typeof address === 'object' && address !== null) port = address.port;
    },
    close: () => proxy.down(),
  };
  await proxy.up();
  return proxy;
}

/** One client's connection and the server's that belongs to it. */
class ProxiedConnection {
  readonly #options: FaultProxyOptions;
  readonly #client: Socket;
  readonly #sockets: Set<Socket>;
  #server: Socket | null = null;
  readonly #pace: (sizeBytes: number) => Promise<void>;
  /** What has come and was not passed on, at the beginning of a buffer that grows. */
  #received: Buffer = Buffer.alloc(1 << 16);
  #receivedBytes = 0;
  /** What is done with the answer to the request under way. */
  #fault: Fault = 'none';
  #isDetached = false;

  constructor(
    client: Socket,
    options: FaultProxyOptions,
    sockets: Set<Socket>,
    pace: (sizeBytes: number) => Promise<void>,
  ) {
    this.#client = client;
    this.#pace = pace;
    this.#options = options;
    this.#sockets = sockets;
    this.#keep(client);
    client.on('data', (chunk: Buffer) => this.#fromClient(chunk));
    client.on('close', () => {
      if (!this.#isDetached) this.#server?.destroy();
    });
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
  }

  #fromClient(chunk: Buffer): void {
    const sizeBytes = this.#receivedBytes + chunk.length;
    if (sizeBytes > this.#received.length) {
      const grown = Buffer.alloc(sizeBytes * 2);
      this.#received.copy(grown, 0, 0, this.#receivedBytes);
      this.#received = grown;
    }
    chunk.copy(this.#received, this.#receivedBytes);
    this.#receivedBytes = sizeBytes;
    const received = this.#received.subarray(0, sizeBytes);
    const request = splitRequest(received);
    if (request === null) return;
    const bytes = received.subarray(0, request.endOffset);
    const rest = received.subarray(request.endOffset);
    this.#received = Buffer.alloc(Math.max(1 << 16, rest.length));
    this.#receivedBytes = rest.copy(this.#received);
    void this.#handle(bytes, request);
  }

  async #handle(bytes: Buffer, { bodyOffset, ...request }: SplitRequest): Promise<void> {
    const { random, maxDelayMs = 300 } = this.#options;
    const chosen = this.#options.choose(request);
    const fault = typeof chosen === 'string' ? chosen : 'answer_500';
    this.#fault = fault;
    const inside = bodyOffset + Math.floor(random.next() * (bytes.length - bodyOffset));
    if (fault === 'delay') await Bun.sleep(random.next() * maxDelayMs);
    if (fault === 'slow') {
      await this.#pace(bytes.length);
      this.#isDetached ||= this.#client.destroyed;
    }
    switch (fault) {
      case 'cut_before_request':
        return this.#cut();
      case 'cut_before_body':
        return this.#sendAndCut(bytes.subarray(0, bodyOffset));
      case 'cut_inside_body':
        return this.#sendAndCut(bytes.subarray(0, inside));
      case 'cut_after_body':
        this.#isDetached = true;
        this.#send(bytes);
        this.#client.destroy();
        return;
      case 'hang_before_body':
        return this.#send(bytes.subarray(0, bodyOffset));
      case 'hang_inside_body':
        return this.#send(bytes.subarray(0, inside));
      case 'answer_500':
        this.#client.end(errorAnswer(typeof chosen === 'string' ? null : chosen));
        return;
      default:
        this.#send(bytes);
    }
  }

  #send(bytes: Buffer): void {
    if (this.#server === null || this.#server.destroyed) this.#server = this.#connect();
    this.#server.write(bytes);
  }

  #sendAndCut(bytes: Buffer): void {
    this.#send(bytes);
    this.#client.destroy();
    // An orderly end: the server reads all of this, and then that there is no more.
    this.#server?.end();
    this.#isDetached = true;
  }

  #cut(): void {
    this.#client.destroy();
    this.#server?.destroy();
  }

  #connect(): Socket {
    const { hostname, port } = new URL(this.#options.target);
    const server = dial(Number(port), hostname);
    this.#keep(server);
    server.on('data', (chunk: Buffer) => this.#fromServer(chunk));
    server.on('close', () => this.#client.destroy());
    return server;
  }

  #fromServer(chunk: Buffer): void {
    if (this.#fault === 'cut_before_answer') this.#cut();
    else if (this.#fault === 'cut_inside_answer') {
      const kept = Math.floor(this.#options.random.next() * chunk.length);
      this.#client.write(chunk.subarray(0, kept), () => this.#cut());
    } else if (this.#fault !== 'hang_before_answer' && !this.#isDetached) this.#client.write(chunk);
  }
}

function errorAnswer(refusal: Refusal | null): string {
  const text = refusal === null ? 'sorry' : `Code: ${refusal.code}. DB::Exception: ${refusal.message}\n`;
  const header = refusal === null ? '' : `X-ClickHouse-Exception-Code: ${refusal.code}\r\n`;
  const size = Buffer.byteLength(text);
  const status = 'HTTP/1.1 500 Internal Server Error';
  return `${status}\r\n${header}Content-Length: ${size}\r\nConnection: close\r\n\r\n${text}`;
}

interface SplitRequest extends ProxiedRequest {
  bodyOffset: number;
  endOffset: number;
}

/** Finds the first complete request; null while it is not. */
function splitRequest(bytes: Buffer): SplitRequest | null {
  const headEnd = bytes.indexOf('\r\n\r\n');
  if (headEnd < 0) return null;
  const head = bytes.subarray(0, headEnd).toString('latin1');
  const [method = '', target = ''] = head.split(' ');
  const bodyOffset = headEnd + 4;
  const length = /^content-length: *(\d+)/im.exec(head)?.[1];
  const chunked = /^transfer-encoding: *chunked/im.test(head);
  const endOffset = chunked ? chunkedEnd(bytes, bodyOffset) : bodyOffset + Number(length ?? 0);
  if (endOffset === null || endOffset > bytes.length) return null;
  const decoded = decodeURIComponent(target.replaceAll('+', ' '));
  return {
    method,
    target: decoded,
    isInsert: /[?&]query=\s*INSERT/i.test(decoded),
    bodySizeBytes: endOffset - bodyOffset,
    bodyOffset,
    endOffset,
  };
}

function chunkedEnd(bytes: Buffer, from: number): number | null {
  for (let at = from; ; ) {
    const lineEnd = bytes.indexOf('\r\n', at);
    if (lineEnd < 0) return null;
    const size = Number.parseInt(bytes.subarray(at, lineEnd).toString('latin1'), 16);
    at = lineEnd + 2 + size + 2;
    if (at > bytes.length) return null;
    if (size === 0) return at;
  }
}
