// Delivery against a model of a server that fails in every way it can: before, during and after the insert,
// with and without deduplication tokens. Whatever happens, each row is there exactly once in the end, or in a
// dead letter.

import { describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { realFileSystem } from '../../src/io/real-file-system.ts';
import { topics } from '../../src/schema/registry.ts';
import { CLICKHOUSE_18_16, MODERN } from '../../src/sink/capabilities.ts';
import type { InsertRequest, SinkClient } from '../../src/sink/clickhouse-client.ts';
import { listDeadLetters } from '../../src/sink/dead-letter.ts';
import { type DeliveryContext, deliverGroup } from '../../src/sink/delivery.ts';
import type { FlusherConfig, FlusherEvent } from '../../src/sink/flusher-types.ts';
import type { GroupSlice, InsertGroup } from '../../src/sink/insert-group.ts';
import { ServerError } from '../../src/sink/server-error.ts';
import type { TablePlan } from '../../src/sink/table-plan.ts';
import { bodyBytes } from '../support/insert-body.ts';
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

/** Stands for the encoders: the body is the LSNs, a piece a slice. */
function* lsnsOf(_: InsertGroup, slices: readonly GroupSlice[]): Generator<Uint8Array, void> {
  for (const { lsn, fromRow, toRow } of slices) {
    const lsns = Array.from({ length: toRow - fromRow }, (_, row) => lsn + BigInt(fromRow + row));
    yield new Uint8Array(new BigUint64Array(lsns).buffer);
  }
}

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
    const copy = bodyBytes({ body });
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
    if (sql.startsWith('SELECT 1')) return [];
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

  async ping(): Promise<'ok'> {
    return 'ok';
  }

  async command(): Promise<void> {}
  async close(): Promise<void> {}
}

function groupOf(firstLsn: bigint, slices: { skip: number; rows: number }[]): InsertGroup {
  let lsn = firstLsn;
  const made = slices.map(({ skip, rows }) => {
    lsn += BigInt(skip);
    const place = { segment: '', offset: 0, payloadSizeBytes: 8, payloadChecksum: 0n, rowCount: rows };
    const slice = { ...place, lsn, fromRow: 0, toRow: rows };
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
    oldestNs: 0n,
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
    encoder: () => () => {},
    ingestBetween: () => '1',
  };
  const config = { walDir, maxRetries: 3, retryBaseMs: 0, retryMaxMs: 0, settleMs: 0 } as FlusherConfig;
  const context: DeliveryContext = {
    client,
    plan,
    config,
    fileSystem: realFileSystem,
    body: lsnsOf,
    signal: new AbortController().signal,
    random: random.next,
    report: (event) => events.push(event),
    wait: async () => {},
    onFailure: () => {},
  };
  return { context, events };
}

test('without tokens, an attempt that the server does not list yet is waited for', () =>
  withDirectory(async (directory) => {
    const server = new ModelServer(false);
    const { context } = contextFor(server, false, directory, seededRandom('on its way'));
    const config = { ...context.config, settleMs: 200 };
    let isLate = true;
    const client: SinkClient = {
      url: server.url,
      nextServer: () => server.nextServer(),
      query: (sql) => server.query(sql),
      command: () => server.command(),
      ping: () => server.ping(),
      close: () => server.close(),
      insert: async (request) => {
        if (!isLate) return await server.insert(request);
        isLate = false;
        const taken = { ...request, body: bodyBytes(request) };
        setTimeout(() => void server.insert(taken), 20);
        throw new ServerError('unknown', null, 'ECONNRESET');
      },
    };
    for (const uncertain of [false, true]) {
      isLate = true;
      const group = groupOf(uncertain ? 20n : 5n, [{ skip: 0, rows: 3 }]);
      const wanted = { group, format: 'RowBinary', token: 't', uncertain } as const;
      // Another process has sent it, and was killed.
      if (uncertain) {
        const request = { body: lsnsOf(group, group.slices), settings: {} } as InsertRequest;
        await client.insert(request).catch(() => null);
      }
      expect(await deliverGroup({ ...context, client, config }, wanted)).toBe('inserted');
    }
    await Bun.sleep(40);
    expect(server.stored).toEqual([5n, 6n, 7n, 20n, 21n, 22n]);
  }));

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

describe('a group that is given up', () => {
  const group = groupOf(10n, [{ skip: 0, rows: 4 }]);
  const refused = () => new ServerError('refused', 53, 'Code: 53. type mismatch');
  const lost = () => new ServerError('unknown', null, 'ECONNRESET');

  /** A server that answers with what a test says. */
  function scripted(insert: (n: number) => void, query: (sql: string, id?: string) => unknown[]) {
    const commands: string[] = [];
    let inserts = 0;
    const client: SinkClient = {
      url: 'scripted',
      insert: async () => insert(inserts++),
      query: async <T>(sql: string, id?: string) => query(sql, id) as T[],
      command: async (sql) => void commands.push(sql),
      ping: async () => 'ok',
      nextServer: () => {},
      close: async () => {},
    };
    return { client, commands };
  }
  const located = (rows: number) => [{ rows: String(rows), last_lsn: String(9 + rows) }];
  const running = (count: number) => [{ running: String(count) }];
  const deliver = (client: SinkClient) =>
    withDirectory(async (directory) => {
      const { context, events } = contextFor(client, true, directory, seededRandom('given up'));
      const wanted = { group, format: 'Native' as const, token: 't', uncertain: false };
      const outcome = await deliverGroup(context, wanted);
      return { outcome, events, letters: listDeadLetters(realFileSystem, directory) };
    });

  test('is in no letter while an attempt without an answer still runs: that one is ended first', async () => {
    let isRunning = true;
    const { client, commands } = scripted(
      (n) => {
        throw n === 0 ? lost() : refused();
      },
      (sql) => {
        if (sql.includes('system.processes')) return running(isRunning && commands.length === 0 ? 1 : 0);
        if (sql.startsWith('SELECT 1')) return [];
        // It commits in the moment in which it is ended.
        isRunning &&= commands.length === 0;
        return located(isRunning ? 0 : 4);
      },
    );
    const { outcome, letters } = await deliver(client);
    expect(commands[0]).toStartWith('KILL QUERY WHERE position(query_id');
    expect({ outcome, letters }).toEqual({ outcome: 'inserted', letters: [] });
  });

  test('is asked for by its query ids, where the server does not list what it runs', async () => {
    const asked: string[] = [];
    const { client } = scripted(
      (n) => {
        throw n === 0 ? lost() : refused();
      },
      (sql, id) => {
        if (sql.includes('system.processes')) return running(0);
        if (!sql.startsWith('SELECT 1')) return located(asked.length < 3 ? 0 : 2);
        asked.push(id!);
        if (asked.length < 3) throw new ServerError('unavailable', 216, 'Code: 216. already running');
        return [];
      },
    );
    const { outcome, letters } = await deliver(client);
    expect(outcome).toBe('dead');
    expect(new Set(asked).size).toBe(1);
    // The rows that came after all are not in the letter.
    expect(letters).toMatchObject([{ rowCount: 2, groupRowCount: 4 }]);
  });

  test('a server that says again and again that it has rows, without them, is not believed', async () => {
    const { client } = scripted(
      (n) => {
        if (n === 0) throw lost();
      },
      (sql) => (sql.includes('system.processes') ? running(0) : located(0)),
    );
    const { outcome, letters } = await deliver(client);
    expect(outcome).toBe('dead');
    expect(letters[0]).toMatchObject({ rowCount: 4 });
    expect(letters[0]!.reason).toContain('has not its rows');
  });

  test('rows that can no longer be read do not keep the others from the server', async () => {
    const inserted: string[] = [];
    const { client } = scripted(
      () => {},
      (sql) => (sql.includes('system.processes') ? running(0) : located(inserted.length > 0 ? 4 : 0)),
    );
    const insert = client.insert;
    client.insert = async (request) => {
      inserted.push(request.settings['insert_deduplication_token']!);
      await insert(request);
    };
    await withDirectory(async (directory) => {
      const { context } = contextFor(client, true, directory, seededRandom('part'));
      const wanted = { group, format: 'Native' as const, token: 'part', uncertain: true, isPart: true };
      expect(await deliverGroup(context, wanted)).toBe('inserted');
    });
    expect(inserted).toEqual(['part']);
  });
});
