// A body whose memory is given back while it is sent arrives whole, however slowly the server takes it.

import { expect, test } from 'bun:test';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { postInsert } from '../../src/sink/post-insert.ts';
import { seededRandom } from '../support/random.ts';

const random = seededRandom('slow server');
const PARTS = 24;
const PART_SIZE_BYTES = 1024 * 1024;
const PAUSE_MS = 2;

test('every byte reaches a server that reads slowly', async () => {
  const received = new Bun.CryptoHasher('sha256');
  const sent = new Bun.CryptoHasher('sha256');
  let receivedBytes = 0;
  let sentBytes = 0;
  const server = createServer(async (request, response) => {
    for await (const chunk of request) {
      received.update(chunk);
      receivedBytes += chunk.length;
      await Bun.sleep(PAUSE_MS);
    }
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  function* parts() {
    const buffer = new Uint8Array(2 * PART_SIZE_BYTES);
    for (let part = 0; part < PARTS; part++) {
      // Small ones and large ones take different ways through the client.
      const bytes = buffer.subarray(0, random.pick([1, 64 * 1024, PART_SIZE_BYTES, 2 * PART_SIZE_BYTES]));
      // Other bytes everywhere: a piece that is read late would show.
      buffer.fill(part + 1);
      sent.update(bytes);
      sentBytes += bytes.length;
      yield bytes;
    }
    buffer.buffer.transfer(0);
  }
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const address = { urls: [url], user: 'default', password: '', timeoutMs: 30_000, tls: null };
  await postInsert(url, address, {
    sql: 'INSERT INTO t FORMAT RowBinary',
    body: parts(),
    queryId: 'slow',
    settings: {},
  });
  server.close();
  expect(receivedBytes).toBe(sentBytes);
  expect(received.digest('hex')).toBe(sent.digest('hex'));
}, 60_000);
