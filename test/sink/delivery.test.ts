// Delivery against a model of a server that fails in every way it can: before, during and after the insert,
// with and without deduplication tokens. Whatever happens, each row is there exactly once in the end, or in a
// dead letter.

import { describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BlockView } from '../../src/columns/block-codec.ts';
import { realFileSystem } from '../../src/io/real-file-system.ts';
import { topics } from '../../src/schema/registry.ts';
import { createByteSink, reserve } from '../../src/sink/byte-sink.ts';
import { CLICKHOUSE_18_16, MODERN } from '../../src/sink/capabilities.ts';
import type { InsertRequest, SinkClient } from '../../src/sink/clickhouse-client.ts';
import { listDeadLetters } from '../../src/sink/dead-letter.ts';
import { type DeliveryContext, deliverGroup } from '../../src/sink/delivery.ts';
import type { FlusherConfig, FlusherEvent } from '../../src/sink/flusher-types.ts';
import type { GroupEncoder } from '../../src/sink/group-encoder.ts';
import type { InsertGroup } from '../../src/sink/insert-group.ts';
import { ServerError } from '../../src/sink/server-error.ts';
import type { TablePlan } from '../../src/sink/table-plan.ts';
import { type SeededRandom, seededRandom } from '../support/random.ts';

/** How an insert ends: what is stored of it, when, and what the client hears. */
const FATES = [
  'ok',
  'refused',
  'unavailable',
  'not_sent',
  'lost_before',
  'lost_after',
  'late',
  'cut',
  'died_between',
  'committing',
] as const;
type Fate = (typeof FATES)[number];

const model = topics[0]!;

/** Stands for the encoders: the body is the LSNs. */
const encodeLsns: GroupEncoder = (sink, slices) => {
  for (const { lsn, fromRow, toRow } of slices) {
    for (let row = fromRow; row < toRow; row++) {
      reserve(sink, 8);
      sink.view.setBigUint64(sink.position, lsn + BigInt(row), true);
      sink.position += 8;
    }
  }
};

class ModelServer implements SinkClient {
  readonly url = 'model';
  readonly stored: bigint[] = [];
  readonly #tokens = new Set<string>();
  readonly #withTokens: boolean;
  /** Inserts that the client has given up and the server has not. */
  #running: { rows: bigint[]; token: string | undefined }[] = [];
  /** Inserts whose token is noted and whose rows are not yet there. */
  #committing: bigint[][] = [];
  fates: Fate[] = [];
  bodies = new Map<string, string>();
  serverChanges = 0;

  constructor(withTokens: boolean) {
    this.#withTokens = withTokens;
  }

  #store(rows: bigint[], token: string | undefined): void {
    if (rows.length === 0) return; // no rows, no part, no token
    if (this.#withTokens) {
      if (token === undefined) throw new Error('an insert without token');
      if (this.#tokens.has(token)) return;
      this.#tokens.add(token);
    }
    this.stored.push(...rows);
  }

  async insert({ body, settings }: InsertRequest): Promise<void> {
    const copy = body.slice();
    const rows = [...new BigUint64Array(copy.buffer)];
    const token = settings['insert_deduplication_token'];
    if (this.#withTokens) {
      const before = this.bodies.get(token!);
      if (before !== undefined) expect(Bun.hash(copy).toString()).toBe(before);
      this.bodies.set(token!, Bun.hash(copy).toString());
    }
    const fate = this.fates.shift() ?? 'ok';
    switch (fate) {
      case 'ok':
        return this.#store(rows, token);
      case 'refused':
        throw new ServerError('refused', 53, 'Code: 53. type mismatch');
      case 'unavailable':
        throw new ServerError('unavailable', 252, 'Code: 252. too many parts');
      case 'not_sent':
        throw new ServerError('unavailable', null, 'ECONNREFUSED');
      case 'lost_before':
        break;
      case 'lost_after':
        this.#store(rows, token);
        break;
      case 'late':
        this.#running.push({ rows, token });
        break;
      case 'died_between':
        // Killed after it noted the token and before it committed the rows.
        if (this.#withTokens && rows.length > 0) this.#tokens.add(token!);
        break;
      case 'committing':
        if (this.#withTokens && rows.length > 0 && !this.#tokens.has(token!)) {
          this.#tokens.add(token!);
          this.#committing.push(rows);
        } else this.#running.push({ rows, token });
        break;
      case 'cut':
        // A server that takes a cut body for a short one.
        this.#store(rows.slice(0, Math.floor(rows.length / 2)), token);
        break;
    }
    throw new ServerError('unknown', null, 'ECONNRESET');
  }

  async query<T>(sql: string): Promise<T[]> {
    if (sql.includes('system.processes')) {
      const answer = [{ running: String(this.#running.length + this.#committing.length) }];
      this.#finishRunning();
      this.stored.push(...this.#committing.flat());
      this.#committing = [];
      return answer as T[];
    }
    const match = /wal_lsn BETWEEN (\d+) AND (\d+)/.exec(sql)!;
    const [first, last] = [BigInt(match[1]!), BigInt(match[2]!)];
    const found = this.stored.filter((lsn) => lsn >= first && lsn <= last);
    const greatest = found.toSorted((a, b) => (a < b ? -1 : 1)).at(-1) ?? 0n;
    const answer = [{ rows: String(found.length), last_lsn: String(greatest) }];
    // On a server with tokens nobody waits for the late insert: it ends between this answer and the next
    // insert.
    if (this.#withTokens) this.#finishRunning();
    return answer as T[];
  }

  #finishRunning(): void {
    for (const { rows, token } of this.#running) this.#store(rows, token);
    this.#running = [];
  }

  nextServer(): void {
    this.serverChanges += 1;
  }

  async command(): Promise<void> {}
  async close(): Promise<void> {}
}

function groupOf(firstLsn: bigint, slices: { skip: number; rows: number }[]): InsertGroup {
  let lsn = firstLsn;
  const made = slices.map(({ skip, rows }) => {
    lsn += BigInt(skip);
    const slice = { view: {} as BlockView, lsn, fromRow: 0, toRow: rows };
    lsn += BigInt(rows);
    return slice;
  });
  const last = made.at(-1)!;
  return {
    topic: model.topic,
    model,
    recorder: 'r',
    walId: 7n,
    firstLsn: made[0]!.lsn,
    lastLsn: last.lsn + BigInt(last.toRow - 1),
    rowCount: made.reduce((sum, { toRow }) => sum + toRow, 0),
    payloadBytes: 0,
    partitionStartNs: 0n,
    partitionEndNs: 1n,
    slices: made,
    contentHash: firstLsn,
  };
}

function contextFor(client: SinkClient, tokens: boolean, walDir: string, random: SeededRandom) {
  const events: FlusherEvent[] = [];
  const plan: TablePlan = {
    model,
    table: 'hft.t',
    capabilities: tokens ? MODERN : CLICKHOUSE_18_16,
    insertSql: (format) => `INSERT INTO hft.t FORMAT ${format}`,
    encoder: () => encodeLsns,
    ingestBetween: () => '1',
  };
  const config = { walDir, maxRetries: 3, retryBaseMs: 0, retryMaxMs: 0 } as FlusherConfig;
  const context: DeliveryContext = {
    client,
    plan,
    config,
    fileSystem: realFileSystem,
    sink: createByteSink(),
    signal: new AbortController().signal,
    random: random.next,
    report: (event) => events.push(event),
    onFailure: () => {},
  };
  return { context, events };
}

function withDirectory<T>(action: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'recorder-delivery-'));
  return action(directory).finally(() => rmSync(directory, { recursive: true, force: true }));
}

for (const tokens of [true, false]) {
  describe(`delivery ${tokens ? 'with' : 'without'} deduplication tokens`, () => {
    test('random failures: each row is stored once, or is in a dead letter', () =>
      withDirectory(async (directory) => {
        const random = seededRandom(`delivery ${tokens}`);
        const server = new ModelServer(tokens);
        const { context } = contextFor(server, tokens, directory, random);
        const expected: bigint[] = [];
        let lsn = 0n;
        for (let round = 0; round < 400; round++) {
          const slices = Array.from({ length: random.int(1, 4) }, () => ({
            skip: random.int(0, 3),
            rows: random.int(1, 6),
          }));
          const group = groupOf(lsn, slices);
          lsn = group.lastLsn + 1n;
          server.fates = Array.from({ length: random.int(0, 5) }, () => random.pick(FATES));
          const token = `t${round}`;
          const uncertain = random.int(0, 3) === 0;
          const outcome = await deliverGroup(context, { group, format: 'RowBinary', token, uncertain });
          server.fates = [];
          expect(outcome).not.toBe('stopped');
          const lsns = group.slices.flatMap((slice) =>
            Array.from({ length: slice.toRow }, (_, row) => slice.lsn + BigInt(row)),
          );
          if (outcome === 'inserted') expected.push(...lsns);
          else {
            const letter = listDeadLetters(realFileSystem, directory).find(
              ({ firstLsn }) => firstLsn === String(group.firstLsn),
            )!;
            const body = realFileSystem.readFile(`${directory}/dead-letter/${letter.bodyFile}`);
            const dead = [...new BigUint64Array(body.slice().buffer)];
            expect(dead.length).toBe(letter.rowCount);
            expected.push(...lsns.filter((value) => !dead.includes(value)));
          }
        }
        const sorted = (list: bigint[]) => list.toSorted((a, b) => (a < b ? -1 : 1));
        expect(sorted(server.stored)).toEqual(sorted(expected));
      }));

    test('a refused group becomes one dead letter after the given number of retries', () =>
      withDirectory(async (directory) => {
        const server = new ModelServer(tokens);
        const { context, events } = contextFor(server, tokens, directory, seededRandom('refused'));
        server.fates = Array.from({ length: 9 }, () => 'refused' as const);
        const group = groupOf(5n, [{ skip: 0, rows: 3 }]);
        const outcome = await deliverGroup(context, {
          group,
          format: 'Native',
          token: 't',
          uncertain: false,
        });
        expect(outcome).toBe('dead');
        expect(server.fates.length).toBe(9 - 4);
        const letters = listDeadLetters(realFileSystem, directory);
        expect(letters).toHaveLength(1);
        expect(letters[0]).toMatchObject({
          topic: model.topic,
          firstLsn: '5',
          lastLsn: '7',
          rowCount: 3,
          token: 't',
          clickhouseCode: 53,
          attempts: 4,
          reason: 'Code: 53. type mismatch',
        });
        expect(events.filter(({ kind }) => kind === 'dead_letter')).toHaveLength(1);
      }));

    test('an unavailable server is tried for ever and other servers are tried too', () =>
      withDirectory(async (directory) => {
        const server = new ModelServer(tokens);
        const { context } = contextFor(server, tokens, directory, seededRandom('unavailable'));
        server.fates = Array.from({ length: 50 }, () => 'not_sent' as const);
        const group = groupOf(0n, [{ skip: 0, rows: 3 }]);
        const outcome = await deliverGroup(context, {
          group,
          format: 'Native',
          token: 't',
          uncertain: false,
        });
        expect(outcome).toBe('inserted');
        expect(server.serverChanges).toBe(50);
        expect(server.stored).toEqual([0n, 1n, 2n]);
      }));

    test('after an unknown outcome no other server is tried', () =>
      withDirectory(async (directory) => {
        const server = new ModelServer(tokens);
        const { context } = contextFor(server, tokens, directory, seededRandom('unknown'));
        server.fates = ['lost_after', 'not_sent', 'not_sent'];
        const group = groupOf(0n, [{ skip: 0, rows: 3 }]);
        await deliverGroup(context, { group, format: 'Native', token: 't', uncertain: false });
        expect(server.serverChanges).toBe(0);
        expect(server.stored).toEqual([0n, 1n, 2n]);
      }));
  });
}
