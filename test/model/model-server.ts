// A ClickHouse that does with inserts what servers and networks do: takes them, refuses them, takes them and
// does not say so, takes them late, takes the beginning of one. With deduplication tokens or without (then it
// says which inserts still run, as 18.16 does).

import type { TopicModel } from '../../src/schema/model.ts';
import type { InsertRequest, SinkClient } from '../../src/sink/clickhouse-client.ts';
import { ServerError } from '../../src/sink/server-error.ts';
import { tableColumns } from '../../src/sink/table-columns.ts';
import { bodyBytes } from '../support/insert-body.ts';
import type { SeededRandom } from '../support/random.ts';
import { type Cell, rowsOfBody } from './insert-rows.ts';
import type { VirtualTime } from './virtual-time.ts';

export type Weather = 'calm' | 'storm' | 'down';

export interface StoredRow {
  topic: string;
  cells: Record<string, Cell>;
}

/** Inserts that a table remembers; more than can be under way at once. */
const WINDOW = 100;

interface Running {
  queryId: string;
}

interface Table {
  model: TopicModel;
  exists: boolean;
  rows: StoredRow[];
  tokens: string[];
}

export class ModelServer {
  weather: Weather = 'calm';
  /** Called for every row that is stored. */
  onStored: (row: StoredRow) => void = () => {};
  readonly hasTokens: boolean;
  readonly #random: SeededRandom;
  readonly #time: VirtualTime;
  readonly #tables: Map<string, Table>;
  readonly #running = new Set<Running>();
  #lives = 0;

  constructor(topics: readonly TopicModel[], hasTokens: boolean, time: VirtualTime, random: SeededRandom) {
    this.hasTokens = hasTokens;
    this.#time = time;
    this.#random = random;
    this.#tables = new Map(
      topics.map((model) => [model.table, { model, exists: false, rows: [], tokens: [] }]),
    );
  }

  get #owner(): string {
    return `server ${this.#lives}`;
  }

  /** Inserts that run are gone; what is stored stays. */
  kill(): void {
    this.#time.kill(this.#owner);
    this.#lives++;
    this.#running.clear();
    this.weather = 'down';
  }

  /** A connection; each request takes its time. */
  connect(): SinkClient {
    return {
      url: 'http://model:8123',
      nextServer: () => {},
      close: () => Promise.resolve(),
      query: async <T>(sql: string, queryId?: string) => {
        await this.#reach();
        if ([...this.#running].some((running) => running.queryId === queryId)) {
          throw new ServerError('unavailable', 216, 'Code: 216. Query with this id is already running');
        }
        return this.#answer(sql) as T[];
      },
      command: async (sql) => {
        await this.#reach();
        const table = /CREATE TABLE IF NOT EXISTS `hft`\.`(\w+)`/.exec(sql)?.[1];
        if (table !== undefined) this.#tables.get(table)!.exists = true;
      },
      insert: (request) => this.#insert(request),
      ping: async () => (this.weather === 'down' ? 'refused' : 'ok'),
    };
  }

  async #reach(): Promise<void> {
    await this.#time.delay(this.#random.int(0, 2));
    if (this.weather === 'down') throw new ServerError('unavailable', null, 'ECONNREFUSED');
    if (this.weather !== 'storm') return;
    const fate = this.#random.int(0, 19);
    if (fate === 0) throw new ServerError('unknown', null, 'the connection was reset');
    if (fate === 1) throw new ServerError('unavailable', 202, 'Code: 202. Too many simultaneous queries');
  }

  async #insert(request: InsertRequest): Promise<void> {
    const random = this.#random;
    await this.#reach();
    const table = this.#tables.get(/^INSERT INTO `hft`\.`(\w+)`/.exec(request.sql)?.[1] ?? '')!;
    const token = request.settings['insert_deduplication_token'] ?? null;
    const format = request.sql.endsWith('Native') ? 'Native' : 'RowBinary';
    const rows = rowsOfBody(table.model, bodyBytes(request), format);
    const fate = this.weather === 'calm' ? 0 : random.int(0, 11);
    const timeout = async (text: string): Promise<never> => {
      await this.#time.delay(30);
      throw new ServerError('unknown', null, text);
    };
    if (fate === 5) throw new ServerError('refused', 27, 'Code: 27. Cannot parse input');
    if (fate === 6) throw new ServerError('unavailable', 252, 'Code: 252. Too many parts');
    if (fate === 7) return await timeout('no answer, and the insert never came');
    if (fate === 8) {
      this.#store(table, rows, token);
      return await timeout('no answer, and the insert is done');
    }
    if (fate === 9) {
      this.#later(table, rows, token, request.queryId);
      return await timeout('no answer, and the insert still runs');
    }
    if (fate === 10) {
      const part = rows.slice(0, random.int(0, rows.length));
      if (random.int(0, 1) === 0) this.#store(table, part, token);
      else this.#later(table, part, token, request.queryId);
      throw new ServerError('unknown', null, 'the connection was cut within the body');
    }
    this.#store(table, rows, token);
    await this.#time.delay(random.int(0, 3));
  }

  #later(table: Table, rows: Record<string, Cell>[], token: string | null, queryId: string): void {
    const running = { queryId };
    this.#running.add(running);
    this.#time.later(this.#owner, this.#random.int(1, 200), () => {
      this.#running.delete(running);
      this.#store(table, rows, token);
    });
  }

  #store(table: Table, rows: Record<string, Cell>[], token: string | null): void {
    if (rows.length === 0) return;
    if (token !== null && this.hasTokens) {
      if (table.tokens.includes(token)) return;
      table.tokens.push(token);
      if (table.tokens.length > WINDOW) table.tokens.shift();
    }
    for (const cells of rows) {
      const row = { topic: table.model.topic, cells };
      table.rows.push(row);
      this.onStored(row);
    }
  }

  #answer(sql: string): unknown[] {
    const listed = () =>
      [.../'(\w+)'/g[Symbol.matchAll](/ IN \((.*)\)/.exec(sql)?.[1] ?? '')].map((m) => m[1]!);
    const named = (names: string[]) => names.map((name) => ({ name, value: '' }));
    if (sql.startsWith('SELECT 1')) return [{ one: 1 }];
    if (sql.startsWith('SELECT version()')) return [{ version: 'model' }];
    if (sql.includes('FROM system.settings')) {
      const old = ['allow_experimental_low_cardinality_type'];
      if (!this.hasTokens) old.push('insert_deduplication_token');
      return named(listed().filter((name) => !old.includes(name)));
    }
    if (sql.includes('FROM system.merge_tree_settings')) {
      return named(this.hasTokens ? ['non_replicated_deduplication_window'] : ['index_granularity']);
    }
    if (sql.includes('FROM system.data_type_families')) return named(listed());
    if (sql.includes('FROM system.columns')) return this.#columns(sql);
    if (sql.includes('FROM system.processes')) {
      const prefix = /position\(query_id, '([^']*)'\) = 1/.exec(sql)![1]!;
      const running = [...this.#running].filter(({ queryId }) => queryId.startsWith(prefix));
      return [{ running: String(running.length) }];
    }
    return this.#located(sql);
  }

  #columns(sql: string): unknown[] {
    const table = this.#tables.get(/ AND table = '(\w+)'/.exec(sql)?.[1] ?? '');
    if (table === undefined || !table.exists) return [];
    return tableColumns(table.model).map(({ name, type }) => ({ name, type, default_kind: '' }));
  }

  #located(sql: string): unknown[] {
    const table = this.#tables.get(/ FROM `hft`\.`(\w+)` WHERE /.exec(sql)![1]!)!;
    const walId = BigInt(/wal_id = (\d+)/.exec(sql)![1]!);
    const between = /wal_lsn BETWEEN (\d+) AND (\d+)/.exec(sql);
    const from = BigInt(between?.[1] ?? /wal_lsn >= (\d+)/.exec(sql)![1]!);
    const to = between === null ? null : BigInt(between[2]!);
    const lsns = table.rows
      .filter(({ cells }) => cells['wal_id'] === walId)
      .map(({ cells }) => cells['wal_lsn'] as bigint)
      .filter((lsn) => lsn >= from && (to === null || lsn <= to));
    // Groups are stored in order: the last is the greatest.
    const last = lsns.at(-1) ?? 0n;
    return [{ rows: String(lsns.length), last_lsn: String(last) }];
  }
}
