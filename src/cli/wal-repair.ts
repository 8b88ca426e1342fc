// `recorder wal repair`: makes a damaged WAL one that a recorder starts from, and says what stays lost.

import { type Command, Option } from 'commander';
import { realFileSystem } from '../io/real-file-system.ts';
import { repairAndRecover } from '../supervisor/replay/repair-wal.ts';
import { ownerState, readLock } from '../wal/lock.ts';
import { planRepair, type RepairStep } from '../wal/repair.ts';
import { addSettingFlags, configOf, printLine, toJson } from './options.ts';
import { directoryOf, guarded, JSON_FLAG } from './wal-command.ts';
import { showVerify } from './wal-verify.ts';

interface RepairFlags {
  dryRun?: boolean;
  json?: boolean;
}

function stepFacts({ action, text, damage }: RepairStep) {
  const { segment, offset, endOffset, firstLsn, lastLsn, reason } = damage;
  return { action, segment, offset, endOffset, reason, firstLsn, lastLsn, text };
}

function showPlan(dir: string, json: boolean): void {
  const steps = planRepair(realFileSystem, dir);
  const owner = readLock(realFileSystem, dir);
  const inUse = owner !== null && ownerState(owner) !== 'dead';
  if (json) {
    printLine(toJson({ dryRun: true, inUse, steps: steps.map(stepFacts) }));
    return;
  }
  for (const { text } of steps) printLine(`would do: ${text}`);
  if (steps.length === 0) printLine('nothing to repair');
  if (inUse) printLine(`process ${owner.pid} on ${owner.host} uses the WAL: stop it before the repair`);
}

async function repair(dir: string, command: Command, json: boolean): Promise<void> {
  const config = { ...configOf(command), walDir: dir };
  const { steps, evidence, recovery, after } = await repairAndRecover(realFileSystem, config);
  if (json) {
    if (after.damaged.length > 0) process.exitCode = 1;
    const { segments, blocks, rows, damaged, accepted } = after;
    const findings = recovery?.findings ?? [];
    printLine(
      toJson({
        dryRun: false,
        steps: steps.map(stepFacts),
        evidence,
        recovery: findings,
        segments,
        blocks,
        rows,
        damaged,
        accepted,
      }),
    );
    return;
  }
  for (const { action, text } of steps) printLine(`${action === 'refuse' ? 'cannot' : 'done'}: ${text}`);
  if (steps.length === 0) printLine('nothing to repair');
  for (const { segment, reason, copiedTo } of recovery?.findings ?? []) {
    if (copiedTo !== null) printLine(`cut off: ${segment}: ${reason}, kept in ${copiedTo}`);
  }
  if (evidence !== null) printLine(`evidence: ${dir}/${evidence}`);
  showVerify(after, false);
}

/** Adds `recorder wal repair` to `wal`. */
export function addRepair(wal: Command): void {
  const command = wal
    .command('repair [dir]')
    .description(
      'make a damaged WAL usable again: good blocks stay, evidence is kept, what stays lost is named',
    )
    .addOption(new Option('--dry-run', 'only say what would be done'))
    .option(...JSON_FLAG);
  addSettingFlags(command, ['walDir', 'walSegmentBytes', 'recorderId']).action(
    (argument: string | undefined, flags: RepairFlags) =>
      guarded(flags.json, async () => {
        const dir = directoryOf(command, argument, realFileSystem);
        if (flags.dryRun === true) showPlan(dir, flags.json === true);
        else await repair(dir, command, flags.json === true);
      }),
  );
}
