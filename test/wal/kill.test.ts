// A real process that writes is killed with SIGKILL at a random moment, again and again, over one directory.

import { expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { realFileSystem } from '../../src/io/real-file-system.ts';
import { openHorizon } from '../../src/wal/horizon.ts';
import { openWal } from '../../src/wal/open.ts';
import { verifyWal } from '../../src/wal/verify.ts';
import { seededRandom } from '../support/random.ts';
import { readAll, TOPICS } from '../support/wal-fixture.ts';

const KILLS = 8;
const random = seededRandom('wal kill');

/** Starts the writer, kills it after a while, and returns the last LSN that it has called durable. */
async function runAndKill(dir: string): Promise<{ openedAt: bigint; acked: bigint }> {
  const script = join(import.meta.dir, 'writing-process.ts');
  const child = Bun.spawn([process.execPath, script, dir], { stdout: 'pipe', stderr: 'inherit' });
  let output = '';
  let isTimed = false;
  const decoder = new TextDecoder();
  for await (const chunk of child.stdout) {
    output += decoder.decode(chunk, { stream: true });
    if (isTimed || !output.includes('durable')) continue;
    isTimed = true;
    setTimeout(() => child.kill('SIGKILL'), random.int(0, 120));
  }
  await child.exited;
  expect(child.signalCode).toBe('SIGKILL');
  const lines = output.split('\n').slice(0, -1);
  const lsnOf = (line: string | undefined) => BigInt(line!.split(' ')[1]!);
  return { openedAt: lsnOf(lines[0]), acked: lsnOf(lines.at(-1)) };
}

function expectWhole(dir: string, endLsn: bigint): void {
  const { blocks, damages } = readAll(realFileSystem, { dir });
  expect(damages).toEqual([]);
  let lsn = 0;
  for (const block of blocks) {
    if (Number(block.lsn) !== lsn) throw new Error(`block ${block.lsn} comes after row ${lsn}`);
    for (let row = 0; row < block.rowCount; row++) {
      if (block.payload[row * 64] !== (lsn + row) % 251) throw new Error(`row ${lsn + row} is wrong`);
    }
    lsn += block.rowCount;
  }
  expect(BigInt(lsn)).toBe(endLsn);
}

test('what a killed process called durable is there, in order, whole and once', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'recorder-kill-'));
  try {
    let acked = 0n;
    for (let kill = 0; kill < KILLS; kill++) {
      const run = await runAndKill(dir);
      expect(run.openedAt).toBeGreaterThanOrEqual(acked);
      expect(run.acked).toBeGreaterThan(run.openedAt);
      acked = run.acked;
      expect(openHorizon(realFileSystem, dir)!.durableLsn()).toBeGreaterThanOrEqual(acked);
      expect(verifyWal(realFileSystem, dir).damaged.filter(({ kind }) => kind !== 'torn_tail')).toEqual([]);
    }
    const wal = await openWal({ dir, recorder: 'after', topics: TOPICS, segmentSizeBytes: 256 * 1024 });
    expect(wal.nextLsn).toBeGreaterThanOrEqual(acked);
    const end = wal.nextLsn;
    await wal.close();
    expectWhole(dir, end);
    expect(verifyWal(realFileSystem, dir).damaged).toEqual([]);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}, 60_000);
