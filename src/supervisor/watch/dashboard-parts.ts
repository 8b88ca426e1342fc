// What the page of a recorder shows, from its parts.

import { version } from '../../../package.json' with { type: 'json' };
import { type Config, clickhouseUrls, isClickhouseOn } from '../../config.ts';
import type { DashboardOptions } from '../../observe/dashboard/dashboard.ts';
import type { Identity } from '../../observe/dashboard/live.ts';
import type { SqlConsole } from '../../observe/dashboard/sql-console.ts';
import { topicByName, topics } from '../../schema/registry.ts';
import { clickhouseTls } from '../clickhouse-address.ts';
import { ClickHouseProbe } from '../clickhouse-probe.ts';
import type { RecorderParts } from '../recorder.ts';
import type { NewestRows } from './newest-rows.ts';
import { cannedQuestions } from './questions.ts';

/** What the page asks of a recorder; `parts` is null before it has started. */
export function dashboardParts(
  config: Config,
  parts: () => RecorderParts | null,
  newest: NewestRows,
): Pick<DashboardOptions, 'identity' | 'delivery' | 'answers' | 'tap' | 'sql'> {
  const tls = tlsOf(config);
  const sqlConsole = createSqlConsole(config, tls);
  const probe = new ClickHouseProbe(clickhouseUrls(config), tls);
  return {
    identity: () => identityOf(parts()),
    delivery: () => {
      if ((parts()?.flusher ?? null) !== null) return 'on';
      return config.mode === 'wal_first' ? 'wal_first' : 'off';
    },
    answers: (isUnreachable) => probe.look(isUnreachable),
    tap: (topic, limit) => {
      const model = topicByName(topic);
      const wal = parts()?.path.wal;
      if (model === undefined || wal === undefined) return null;
      return {
        rows: newest.read(model, limit, wal.durableLsn),
        columns: model.columns.map(({ name }) => name),
      };
    },
    sql: () => ((parts()?.flusher ?? null) !== null || isClickhouseOn(config, false) ? sqlConsole : null),
  };
}

function identityOf(parts: RecorderParts | null): Identity | null {
  if (parts === null) return null;
  const { config, path } = parts;
  return {
    name: config.recorderId,
    version,
    mode: config.mode,
    walDir: config.walDir,
    walId: path.wal.walId.toString(),
    topics: topics.map(({ topic }) => topic),
  };
}

/** Certificates as `fetch` takes them. */
function tlsOf(config: Config): BunFetchRequestInit {
  const certificates = clickhouseTls(config);
  return certificates === null ? {} : { tls: { ca: certificates.caCert, ...(certificates.client ?? {}) } };
}

/** Statements go to the first server that answers; user and password stay here. */
function createSqlConsole(config: Config, tls: BunFetchRequestInit): SqlConsole {
  const headers = {
    'x-clickhouse-user': config.clickhouseUser,
    ...(config.clickhousePassword === '' ? {} : { 'x-clickhouse-key': config.clickhousePassword }),
  };
  return {
    questions: cannedQuestions(config.clickhouseDatabase),
    async send(sql, parameters, signal) {
      let failure: unknown;
      for (const url of clickhouseUrls(config)) {
        try {
          // Idle connections are not kept: ClickHouse 18 closes them after 3 s.
          const init = { method: 'POST', body: sql, headers, signal, keepalive: false, ...tls } as const;
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
