// What a TypeScript user would write first: frames off a Unix socket, decoded by flatc's class into an array
// of objects, inserted by @clickhouse/client as JSONEachRow. Batches by rows or by time; while one is
// inserted the next one fills, and the socket is paused when two batches wait. Nothing is durable before it
// is in ClickHouse.
//
// Arguments: one JSON object (BaselineOptions). Says `ready`, then after each insert how many rows it has
// inserted; runs until it is killed.

import { createClient } from '@clickhouse/client';
import type { Socket } from 'bun';
import { ByteBuffer } from 'flatbuffers';
import { MarketData } from '../../src/schema/generated/hft/market-data.ts';

export interface BaselineOptions {
  socket: string;
  url: string;
  table: string;
  batchRows: number;
  batchMs: number;
}

const options = JSON.parse(process.argv[2]!) as BaselineOptions;
const client = createClient({ url: options.url });
const decimal = (units: bigint) => Number(units) / 1e9;

function levels(count: number, at: (i: number) => bigint | null): number[] {
  const values: number[] = [];
  for (let i = 0; i < count; i++) values.push(decimal(at(i)!));
  return values;
}

function toRow(frame: Uint8Array, ingestTs: string) {
  const data = MarketData.getRootAsMarketData(new ByteBuffer(frame));
  return {
    symbol: data.symbol(),
    exchange: data.exchange(),
    kind: data.kind(),
    exch_ts: String(data.exchTs()),
    local_ts: data.localTs() === null ? null : String(data.localTs()),
    price: decimal(data.price()),
    volume: decimal(data.volume()),
    bid_prices: levels(data.bidPricesLength(), (i) => data.bidPrices(i)),
    bid_sizes: levels(data.bidSizesLength(), (i) => data.bidSizes(i)),
    ask_prices: levels(data.askPricesLength(), (i) => data.askPrices(i)),
    ask_sizes: levels(data.askSizesLength(), (i) => data.askSizes(i)),
    exch_seq: String(data.exchSeq()),
    trade_id: String(data.tradeId()),
    trade_side: data.tradeSide(),
    conditions: data.conditions() ?? '',
    instrument_type: data.instrumentType(),
    ingest_ts: ingestTs,
  };
}

const batch: ReturnType<typeof toRow>[] = [];
let inserting = false;
let inserted = 0;
const paused = new Set<Socket<{ rest: Buffer }>>();

async function insert(): Promise<void> {
  if (inserting || batch.length === 0) return;
  inserting = true;
  while (batch.length > 0) {
    const values = batch.splice(0, options.batchRows);
    await client.insert({ table: options.table, values, format: 'JSONEachRow' });
    inserted += values.length;
    process.stdout.write(`${inserted}\n`);
    for (const socket of paused) socket.resume();
    paused.clear();
  }
  inserting = false;
}
setInterval(insert, options.batchMs);

Bun.listen<{ rest: Buffer }>({
  unix: options.socket,
  allowHalfOpen: true,
  socket: {
    open(socket) {
      socket.data = { rest: Buffer.alloc(0) };
    },
    data(socket, chunk) {
      const { rest } = socket.data;
      const bytes = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk]);
      const ingestTs = `${Date.now()}000000`;
      let at = 0;
      while (bytes.length - at >= 4 && bytes.length - at >= 4 + bytes.readUInt32LE(at)) {
        const end = at + 4 + bytes.readUInt32LE(at);
        batch.push(toRow(bytes.subarray(at + 4, end), ingestTs));
        at = end;
      }
      socket.data.rest = bytes.subarray(at);
      if (batch.length >= options.batchRows) insert();
      if (batch.length >= 2 * options.batchRows) {
        socket.pause();
        paused.add(socket);
      }
    },
    end(socket) {
      socket.end();
    },
  },
});
process.stdout.write('ready\n');
