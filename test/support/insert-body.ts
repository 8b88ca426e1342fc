// What a client is given as the body of an insert, as bytes.

import type { InsertRequest } from '../../src/sink/clickhouse-client.ts';

/** Takes the body as a client does, once, and copies it. */
export function bodyBytes({ body }: Pick<InsertRequest, 'body'>): Uint8Array<ArrayBuffer> {
  const copies: Uint8Array[] = [];
  for (const piece of body instanceof Uint8Array ? [body] : body) copies.push(piece.slice());
  return new Uint8Array(Buffer.concat(copies));
}
