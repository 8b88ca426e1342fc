// What the page of a recorder, or of a loader, shows, from its parts.

import { version } from '../../../package.json' with { type: 'json' };
import { type Config, isClickhouseOn } from '../../config.ts';
import type { FileSystem } from '../../io/file-system.ts';
import type { DashboardOptions } from '../../observe/dashboard/dashboard.ts';
import type { Identity, TapRows } from '../../observe/dashboard/live.ts';
import type { SqlConsole } from '../../observe/dashboard/sql-console.ts';
import { topicByName, topics } from '../../schema/registry.ts';
import type { ClickHouseAddress } from '../../sink/clickhouse-client.ts';
import { fetchOptions } from '../../sink/fetch-options.ts';
import { type Horizon, openHorizon } from '../../wal/horizon.ts';
import { clickhouseAddress } from '../clickhouse-address.ts';
import { ClickHouseProbe } from '../clickhouse-probe.ts';
import type { RecorderParts } from '../recorder.ts';
import { NewestRows } from './newest-rows.ts';
import { cannedQuestions } from './questions.ts';

type Parts = Pick<DashboardOptions, 'identity' | 'delivery' | 'answers' | 'tap' | 'sql'>;

/** What the page asks of a recorder; `parts` is null before it has started. */
export function recorderParts(config: Config, parts: () => RecorderParts | null, newest: NewestRows): Parts {
  const delivers = () => (parts()?.flusher ?? null) !== null;
  const { answers, sql } = clickhouseParts(config, () => delivers() || isClickhouseOn(config, false));
  return {
    answers,
    sql,
    identity: () => {
      const path = parts()?.path;
      return path === undefined ? null : identityOf(config, config.mode, path.wal.walId);
    },
    delivery: () => {
      if (delivers()) return 'on';
      return config.mode === 'wal_first' ? 'wal_first' : 'off';
    },
    tap: (topic, limit) => {
      const wal = parts()?.path.wal;
      return wal === undefined ? null : tapOf(newest, topic, limit, wal.durableLsn);
    },
  };
}

/** What the page asks of a loader, which has the WAL as its files show it. */
export function loaderParts(config: Config, fileSystem: FileSystem): Parts {
  let known: Horizon | null = null;
  // The WAL may be made after the loader has started.
  const horizon = () => {
    if (known === null && fileSystem.exists(config.walDir)) known = openHorizon(fileSystem, config.walDir);
    return known;
  };
  return {
    ...clickhouseParts(config, () => true),
    identity: () => {
      const found = horizon();
      return found === null ? null : identityOf(config, 'load', found.walId);
    },
    delivery: () => 'on',
    tap: (topic, limit) => {
      const found = horizon();
      if (found === null) return null;
      const newest = new NewestRows(fileSystem, config.walDir);
      newest.seed();
      return tapOf(newest, topic, limit, found.durableLsn());
    },
  };
}

function clickhouseParts(config: Config, isOn: () => boolean): Pick<Parts, 'answers' | 'sql'> {
  const address = clickhouseAddress(config);
  const sqlConsole = createSqlConsole(config, address);
  const probe = new ClickHouseProbe(address);
  return { answers: (isUnreachable) => probe.look(isUnreachable), sql: () => (isOn() ? sqlConsole : null) };
}

function tapOf(newest: NewestRows, topic: string, limit: number, durableLsn: bigint): TapRows | null {
  const model = topicByName(topic);
  if (model === undefined) return null;
  return { rows: newest.read(model, limit, durableLsn), columns: model.columns.map(({ name }) => name) };
}

function identityOf(config: Config, mode: string, walId: bigint): Identity {
  return {
    name: config.recorderId,
    version,
    mode,
    walDir: config.walDir,
    walId: walId.toString(),
    topics: topics.map(({ topic }) => topic),
  };
}

/** Statements go to the first server that answers; user and password stay here. */
function createSqlConsole(config: Config, address: ClickHouseAddress): SqlConsole {
  const headers = {
    'x-clickhouse-user': config.clickhouseUser,
    ...(config.clickhousePassword === '' ? {} : { 'x-clickhouse-key': config.clickhousePassword }),
  };
  return {
    questions: cannedQuestions(config.clickhouseDatabase),
    async send(sql, parameters, signal) {
      let failure: unknown;
      for (const url of address.urls) {
        try {
          const init = { ...fetchOptions(address), method: 'POST', body: sql, headers, signal };
          return await fetch(`${url}/?${parameters}`, init);
        } catch (error) {
          if (signal.aborted) throw error;
          failure = error;
        }
      }
      throw failure;
    },
  };
}
