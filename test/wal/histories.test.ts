// Random histories against a model: appends, groups, syncs that fail, trims, orderly stops, kills and power
// losses. What was acknowledged must be there afterwards, whole and once; what was not may be cut, but only
// from the end.

import { expect, test } from 'bun:test';
import type { WalSyncError } from '../../src/wal/errors.ts';
import { openHorizon } from '../../src/wal/horizon.ts';
import { verifyWal } from '../../src/wal/verify.ts';
import type { Wal } from '../../src/wal/writer.ts';
import { MemoryFileSystem } from '../support/memory-file-system.ts';
import { type SeededRandom, seededRandom } from '../support/random.ts';
import { appendRandom, DIR, type KnownBlock, open, readAll } from '../support/wal-fixture.ts';

const HISTORIES = 100;
const STEPS = 60;

type Known = KnownBlock & { lastSeq: bigint };

const endOf = ({ lsn, rowCount }: KnownBlock) => lsn + BigInt(rowCount);

class History {
  readonly random: SeededRandom;
  fileSystem = new MemoryFileSystem();
  wal!: Wal;
  /** Blocks that are in the log and not void, trimmed ones included. */
  blocks: Known[] = [];
  /** Blocks of failed syncs since the last good one: their removal is not durable yet. */
  voided: Known[] = [];
  /** Last blocks that wait to be written again. */
  rescued = 0;
  ackedLsn = 0n;
  trimmedLsn = 0n;
  lastSeq = 0n;
  failSyncs = false;

  constructor(random: SeededRandom) {
    this.random = random;
  }

  async start(): Promise<void> {
    this.failSyncs = false;
    let recoveredSeq = 0n;
    if (this.fileSystem.exists(`${DIR}/lock`)) this.fileSystem.unlink(`${DIR}/lock`);
    this.fileSystem.fault = (operation, path) =>
      this.failSyncs && operation === 'sync' && path.endsWith('.wal') ? 'EIO' : null;
    this.wal = await open(this.fileSystem, {
      streamsSnapshot: () => [
        { source: Uint8Array.of(1), session: Uint8Array.of(0xff), lastSeq: this.lastSeq },
      ],
      onRecoveredStreams: ([stream]) => {
        recoveredSeq = stream?.lastSeq ?? 0n;
        this.lastSeq = recoveredSeq;
      },
      onRecoveredBlock: (header, payload) => {
        expect(payload).toEqual(this.#remember(header.lsn).payload);
        if (header.lastSeq > recoveredSeq) recoveredSeq = header.lastSeq;
        this.lastSeq = recoveredSeq;
      },
      onSyncFailure: (error) => this.#void(error),
    });
    this.#checkStart(recoveredSeq);
  }

  async step(): Promise<void> {
    const { random } = this;
    const action = random.int(0, 99);
    if (action < 60) this.#append();
    else if (action < 68) this.#endGroup();
    else if (action < 88) await this.#sync();
    else if (action < 91) await this.#trim();
    else if (action < 94) await this.#restart('close');
    else if (action < 97) await this.#restart('kill');
    else await this.#restart('power loss');
  }

  #append(): void {
    const lastSeq = this.lastSeq + 1n;
    const known = appendRandom(this.wal, this.random, { endsGroup: this.random.int(0, 2) === 0, lastSeq });
    this.blocks.push({ ...known, lastSeq });
    this.lastSeq = lastSeq;
    this.rescued = 0;
  }

  #endGroup(): void {
    this.wal.endGroup();
    this.rescued = 0;
  }

  async #sync(): Promise<void> {
    this.failSyncs = this.random.int(0, 5) === 0;
    try {
      const { durableLsn } = await this.wal.sync();
      this.rescued = 0;
      if (durableLsn > this.ackedLsn) this.voided = [];
      this.ackedLsn = durableLsn;
    } catch (error) {
      expect((error as WalSyncError).code).toBe('wal_sync');
      expect((error as WalSyncError).firstLsn).toBe(this.ackedLsn);
    } finally {
      this.failSyncs = false;
    }
  }

  /**
   * The rows of a failed sync are written again before anything else, behind all LSNs that were given out.
   */
  #void({ firstLsn }: WalSyncError): void {
    const rescued = this.blocks.filter(({ lsn }) => lsn >= firstLsn);
    this.voided = [...rescued, ...this.voided];
    this.blocks = this.blocks.filter(({ lsn }) => lsn < firstLsn);
    let lsn = this.wal.nextLsn;
    for (const block of rescued) {
      this.blocks.push({ ...block, lsn });
      lsn += BigInt(block.rowCount);
    }
    this.rescued = rescued.length;
  }

  /**
   * The block that recovery found. A power loss may undo the removal of void blocks; then nothing that was
   * written after them counts.
   */
  #remember(lsn: bigint): Known {
    const known = this.blocks.find((block) => block.lsn === lsn);
    if (known !== undefined) return known;
    const back = this.voided.find((block) => block.lsn === lsn)!;
    this.blocks = [...this.blocks.filter((block) => block.lsn < lsn), back];
    return back;
  }

  async #trim(): Promise<void> {
    const before = BigInt(this.random.int(0, Number(this.ackedLsn)));
    await this.wal.trim(before);
    this.trimmedLsn = before > this.trimmedLsn ? before : this.trimmedLsn;
  }

  async #restart(how: 'close' | 'kill' | 'power loss'): Promise<void> {
    if (how === 'close') {
      await this.wal.close();
      expect(this.fileSystem.openFiles).toBe(0);
    }
    if (how !== 'close') this.blocks.length -= this.rescued;
    this.rescued = 0;
    const minimumLsn = this.ackedLsn;
    const old = this.fileSystem;
    this.fileSystem = how === 'power loss' ? old.afterPowerLoss(this.random) : old.afterKill();
    const groupEnd = this.blocks.findLastIndex(({ endsGroup }) => endsGroup);
    await this.start();
    const { blocks } = readAll(this.fileSystem);
    const endLsn = blocks.length === 0 ? 0n : endOf(blocks.at(-1)!);
    this.blocks = this.blocks.filter(
      ({ lsn }) => lsn < this.wal.nextLsn && (lsn < minimumLsn || lsn < endLsn),
    );
    if (how !== 'power loss' && groupEnd !== -1)
      expect(this.blocks.length).toBeGreaterThanOrEqual(groupEnd + 1);
    this.lastSeq = this.blocks.at(-1)?.lastSeq ?? 0n;
    this.ackedLsn = this.wal.durableLsn;
    this.voided = [];
  }

  #checkStart(recoveredSeq: bigint): void {
    const { blocks, damages } = readAll(this.fileSystem);
    expect(damages.filter(({ reason }) => reason !== 'missing_segment')).toEqual([]);
    const oldest = blocks[0]?.lsn ?? this.wal.nextLsn;
    const expected = this.blocks.filter(({ lsn }) => lsn >= oldest).slice(0, blocks.length);
    expect(blocks.map(({ endsGroup: _, ...rest }) => rest)).toEqual(
      expected.map(({ endsGroup: _, lastSeq: __, ...rest }) => rest),
    );
    const end = blocks.length === 0 ? oldest : endOf(blocks.at(-1)!);
    for (const { lsn } of this.blocks) {
      if (lsn < this.ackedLsn && lsn >= oldest) expect(lsn).toBeLessThan(end);
    }
    expect(oldest).toBeLessThanOrEqual(
      this.blocks.find(({ lsn }) => lsn >= this.trimmedLsn)?.lsn ?? this.wal.nextLsn,
    );
    expect(this.wal.nextLsn).toBeGreaterThanOrEqual(this.ackedLsn);
    expect(this.wal.durableLsn).toBe(this.wal.nextLsn);
    expect(openHorizon(this.fileSystem, DIR)?.durableLsn()).toBe(this.wal.nextLsn);
    expect(verifyWal(this.fileSystem, DIR).damaged).toEqual([]);
    if (blocks.length > 0) expect(recoveredSeq).toBe(expected.at(-1)!.lastSeq);
    const total = this.blocks.slice(0, this.blocks.indexOf(expected.at(-1)!) + 1);
    const counted = [...this.wal.rowsByTopic().values()].reduce((sum, rows) => sum + rows, 0n);
    if (blocks.length > 0) {
      expect(counted).toBe(total.reduce((sum, { rowCount }) => sum + BigInt(rowCount), 0n));
    }
  }
}

test('what was acknowledged survives every history, whole and once', async () => {
  const seeds = seededRandom('wal histories');
  for (let count = 0; count < HISTORIES; count++) {
    const seed = seeds.int(1, 0x7fffffff);
    const history = new History(seededRandom('wal history', seed));
    try {
      await history.start();
      for (let step = 0; step < STEPS; step++) await history.step();
      await history.wal.close();
    } catch (error) {
      throw new Error(`history with seed ${seed} failed`, { cause: error });
    }
  }
}, 60_000);
