#!/usr/bin/env bun
// Entry: parse, dispatch.

import { Command } from 'commander';
import { version } from '../package.json' with { type: 'json' };
import { registerClickhouse } from './cli/clickhouse.ts';
import { registerConfig } from './cli/config.ts';
import { registerDemo } from './cli/demo.ts';
import { registerDoctor } from './cli/doctor.ts';
import { registerFeed } from './cli/feed.ts';
import { registerLoad } from './cli/load.ts';
import { registerReconcile } from './cli/reconcile.ts';
import { registerSchema } from './cli/schema.ts';
import { registerServe } from './cli/serve.ts';
import { registerTap } from './cli/tap.ts';
import { registerTop } from './cli/top.ts';
import { registerWal } from './cli/wal.ts';

const program = new Command('recorder')
  .description('Records a trading engine: FlatBuffers in, write-ahead log, ClickHouse out, exactly once.')
  .version(version)
  .showHelpAfterError()
  .showSuggestionAfterError();

registerServe(program);
registerLoad(program);
registerFeed(program);
registerDemo(program);
registerClickhouse(program);
registerWal(program);
registerReconcile(program);
registerTap(program);
registerTop(program);
registerDoctor(program);
registerSchema(program);
registerConfig(program);

await program.parseAsync();
