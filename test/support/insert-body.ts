// What a client is given as the body of an insert, as bytes.

import type { InsertRequest } from '../../src/sink/clickhouse-client.ts';

/** Takes the body as a client does, once, and copies it. */
export function bodyBytes({ body }: Pick<InsertRequest, 'body'>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(body instanceof Uint8Array ? [body] : [...body]));
}
