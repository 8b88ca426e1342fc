// A topic's table at the server, for every version of the topic's schema that the WAL still holds.

import { readTopicModel, type TopicModel } from '../schema/model.ts';
import type { WalBlock } from '../wal/cursor.ts';
import type { Capabilities } from './capabilities.ts';
import type { SinkClient } from './clickhouse-client.ts';
import type { ServerColumn } from './compare-table.ts';
import { ensureTable, planTable, type TablePlan } from './table-plan.ts';

export class TopicTable {
  readonly #model: TopicModel;
  readonly #database: string;
  readonly #models = new Map<bigint, TopicModel>();
  readonly #plans = new Map<bigint, TablePlan>();
  #columns: readonly ServerColumn[] = [];
  #capabilities: Capabilities | null = null;

  /** @param model the topic as the program knows it */
  constructor(model: TopicModel, database: string) {
    this.#model = model;
    this.#database = database;
    this.#models.set(model.fingerprint, model);
  }

  /** Makes the table where it is absent and checks it. Throws ServerError and TableMismatchError. */
  async prepare(client: SinkClient, capabilities: Capabilities): Promise<void> {
    this.#capabilities = capabilities;
    this.#columns = await ensureTable(client, this.#model, capabilities, this.#database);
    this.#plans.clear();
    this.planOf(this.#model);
  }

  /** How to insert rows of a version of the schema; `prepare` comes first. Throws TableMismatchError. */
  planOf(model: TopicModel): TablePlan {
    const known = this.#plans.get(model.fingerprint);
    if (known !== undefined) return known;
    const plan = planTable(model, this.#columns, this.#capabilities!, this.#database);
    this.#plans.set(model.fingerprint, plan);
    return plan;
  }

  /** The model that a block was written with: rows of an older schema are inserted with its own columns. */
  modelOf = (block: WalBlock): TopicModel => {
    const { schemaFingerprint } = block.header;
    const known = this.#models.get(schemaFingerprint);
    if (known !== undefined) return known;
    const model = readTopicModel(block.topic.bfbs);
    this.#models.set(schemaFingerprint, model);
    return model;
  };
}
