// `recorder schema ddl`: the CREATE statements of the tables, for a kind of server or for one that is asked.

import type { Command } from 'commander';
import { type Config, ConfigError } from '../config.ts';
import { RecorderError } from '../errors.ts';
import type { TopicModel } from '../schema/model.ts';
import { topicByName, topics } from '../schema/registry.ts';
import { type Capabilities, CLICKHOUSE_18_16, MODERN, probeCapabilities } from '../sink/capabilities.ts';
import { connectClickHouse } from '../sink/clickhouse-client.ts';
import { createDatabase, createTable } from '../sink/ddl.ts';
import { clickhouseAddress } from '../supervisor/clickhouse-address.ts';
import { addSettingFlags, CLICKHOUSE_ACCESS, configOf, printLine, reportFailure, toJson } from './options.ts';

interface DdlOptions {
  topic?: string[];
  server: string;
  json?: boolean;
}

const SERVERS: Record<string, Capabilities> = { modern: MODERN, '18.16': CLICKHOUSE_18_16 };

function chosenTopics(names: readonly string[] | undefined): readonly TopicModel[] {
  if (names === undefined) return topics;
  return names.map((name) => {
    const model = topicByName(name);
    if (model !== undefined) return model;
    const known = topics.map(({ topic }) => topic).join(', ');
    throw new RecorderError('unknown_topic', `there is no topic ${name}`, { hint: `topics: ${known}` });
  });
}

async function capabilitiesOf(server: string, config: Config): Promise<Capabilities> {
  const known = SERVERS[server];
  if (known !== undefined) return known;
  if (!/^https?:\/\/\S+$/.test(server)) {
    throw new ConfigError([
      `--server=${server}: expected modern, 18.16 or an address like http://localhost:8123`,
    ]);
  }
  const client = connectClickHouse(clickhouseAddress(config, [server]));
  try {
    return await probeCapabilities(client);
  } catch (cause) {
    throw new RecorderError('clickhouse_unavailable', `ClickHouse at ${server} does not answer`, { cause });
  } finally {
    await client.close();
  }
}

async function showDdl(options: DdlOptions, config: Config): Promise<void> {
  const models = chosenTopics(options.topic);
  const capabilities = await capabilitiesOf(options.server, config);
  const database = config.clickhouseDatabase;
  const tables = models.map((model) => ({
    topic: model.topic,
    table: model.table,
    sql: createTable(model, capabilities, database),
  }));
  if (options.json === true) {
    printLine(toJson({ server: capabilities.version, database: createDatabase(database), tables }));
    return;
  }
  printLine(`${createDatabase(database)};`);
  for (const { sql } of tables) printLine(`\n${sql};`);
}

/** Adds `recorder schema ddl`. */
export function registerSchema(program: Command): void {
  const schema = program.command('schema').description('what the schemas say');
  const command = schema
    .command('ddl')
    .description('print the CREATE statements of the ClickHouse tables')
    .option('--topic <names...>', 'only these topics')
    .option('--server <kind>', 'modern, 18.16, or the address of a server to ask what it can do', 'modern')
    .option('--json', 'print one JSON object as the last line');
  addSettingFlags(command, CLICKHOUSE_ACCESS);
  command.action(async (options: DdlOptions) => {
    try {
      await showDdl(options, configOf(command));
    } catch (error) {
      reportFailure(error, options.json === true);
    }
  });
}
