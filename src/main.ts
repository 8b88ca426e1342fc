#!/usr/bin/env bun
// Entry: parse, dispatch. A command is loaded when it is asked for: what `serve` does not need must
// not delay its start.

import { Command } from 'commander';
import { version } from '../package.json' with { type: 'json' };

type Register = (program: Command) => void;

const commands: Record<string, () => Promise<Register>> = {
  serve: async () => (await import('./cli/serve.ts')).registerServe,
  load: async () => (await import('./cli/load.ts')).registerLoad,
  feed: async () => (await import('./cli/feed.ts')).registerFeed,
  demo: async () => (await import('./cli/demo.ts')).registerDemo,
  clickhouse: async () => (await import('./cli/clickhouse.ts')).registerClickhouse,
  wal: async () => (await import('./cli/wal.ts')).registerWal,
  reconcile: async () => (await import('./cli/reconcile.ts')).registerReconcile,
  tap: async () => (await import('./cli/tap.ts')).registerTap,
  top: async () => (await import('./cli/top.ts')).registerTop,
  doctor: async () => (await import('./cli/doctor.ts')).registerDoctor,
  schema: async () => (await import('./cli/schema.ts')).registerSchema,
  config: async () => (await import('./cli/config.ts')).registerConfig,
};

/** The commands that an invocation may be about: the named one, none for the version, else all. */
function commandsFor(first: string | undefined): (() => Promise<Register>)[] {
  if (first === '--version' || first === '-V') return [];
  const named = first !== undefined && Object.hasOwn(commands, first) ? commands[first] : undefined;
  return named === undefined ? Object.values(commands) : [named];
}

const program = new Command('recorder')
  .description('Records a trading engine: FlatBuffers in, write-ahead log, ClickHouse out, exactly once.')
  .version(version)
  .showHelpAfterError()
  .showSuggestionAfterError();

for (const load of commandsFor(process.argv[2])) (await load())(program);

await program.parseAsync();
