// A TCP proxy in front of a server that cuts connections at random places: in the middle of a request,
// between request and answer, in the middle of an answer.

import { createConnection, createServer, type Socket } from 'node:net';
import type { SeededRandom } from '../support/random.ts';

export interface CuttingProxy {
  url: string;
  /** Connections that were cut so far. */
  readonly cuts: number;
  close(): void;
}

/**
 * Starts a proxy to `target`; every connection is cut after a random number of bytes in a random direction.
 */
export function startCuttingProxy(target: string, random: SeededRandom): Promise<CuttingProxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  let cuts = 0;
  const track = (socket: Socket, other: Socket) => {
    sockets.add(socket);
    socket.on('error', () => other.destroy());
    socket.on('close', () => {
      sockets.delete(socket);
      other.destroy();
    });
  };
  const server = createServer((client) => {
    const upstream = createConnection({ host: hostname, port: Number(port) });
    track(client, upstream);
    track(upstream, client);
    const cutRequest = random.int(0, 1) === 0;
    let bytesLeft = random.int(0, cutRequest ? 60_000 : 3_000);
    const relay = (from: Socket, to: Socket, counted: boolean) => {
      from.on('data', (chunk: Buffer) => {
        if (!counted || chunk.length < bytesLeft) {
          if (counted) bytesLeft -= chunk.length;
          to.write(chunk);
          return;
        }
        cuts += 1;
        to.end(chunk.subarray(0, bytesLeft));
        setTimeout(() => from.destroy(), random.int(0, 20));
      });
      from.on('end', () => to.end());
    };
    relay(client, upstream, cutRequest);
    relay(upstream, client, !cutRequest);
  });
  const proxy: CuttingProxy = {
    url: '',
    get cuts() {
      return cuts;
    },
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      proxy.url = `http://127.0.0.1:${typeof address === 'object' ? address!.port : 0}`;
      resolve(proxy);
    });
  });
}
