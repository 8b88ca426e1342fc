// The `clickhouse` command alone: what tests start as their server.

import { Command } from 'commander';
import { registerClickhouse } from '../../src/cli/clickhouse.ts';

const program = new Command('recorder');
registerClickhouse(program);
await program.parseAsync();
