// From a sync that fails to the acknowledgement that does not come.

import { expect, test } from 'bun:test';
import { openHorizon } from '../../../src/wal/horizon.ts';
import { ModelProducer } from '../../model/model-producer.ts';
import { DIR, noSeams, openRecorder, usualSettings } from '../../model/process.ts';
import { VirtualTime } from '../../model/virtual-time.ts';
import { MemoryFileSystem } from '../../support/memory-file-system.ts';
import { seededRandom } from '../../support/random.ts';
import { readAll } from '../../support/wal-fixture.ts';

test('lesson 17: frames of a failed sync have no ack before they are durable elsewhere', async () => {
  const random = seededRandom('failed sync, no ack');
  const time = new VirtualTime();
  const disk = new MemoryFileSystem();
  const producer = new ModelProducer('a', random);
  time.install();
  try {
    const recorder = await time.until('recorder', () =>
      openRecorder(disk, usualSettings, [producer], noSeams, () => {}),
    );
    let failedSyncs = 0;
    const fails = (count: number) => {
      disk.fault = (operation, path) => {
        if (operation !== 'sync' || !path.endsWith('.wal') || failedSyncs >= count) return null;
        failedSyncs++;
        return 'EIO';
      };
    };
    const send = async (count: number) => {
      await time.run('recorder', () => {
        producer.make(count);
        if (producer.connection === null) producer.connect(recorder.shared);
        producer.send(true);
      });
    };
    await send(5);
    await time.advance(10);
    expect(producer.ackedSeq).toBe(5);
    fails(Number.POSITIVE_INFINITY);
    await send(7);
    for (let round = 0; round < 5; round++) {
      await time.advance(250);
      expect(producer.ackedSeq).toBe(5);
    }
    expect(failedSyncs).toBeGreaterThan(1);
    const durableLsn = openHorizon(disk, DIR)!.durableLsn();
    disk.fault = () => null;
    await send(1);
    await time.advance(250);
    expect(producer.ackedSeq).toBe(13);
    // The rows of the failed syncs are there once, behind all LSNs that those had.
    const rows = (from: bigint) =>
      readAll(disk.afterPowerLoss(random), { fromLsn: from, durableLsn: recorder.path.wal.durableLsn })
        .blocks.filter(({ lsn }) => lsn >= from)
        .reduce((sum, { rowCount }) => sum + rowCount, 0);
    const frames = producer.frames.filter(({ model }) => model !== null).length;
    expect(rows(0n)).toBe(frames);
    expect(rows(durableLsn)).toBe(producer.frames.slice(5).filter(({ model }) => model !== null).length);
    expect(openHorizon(disk, DIR)!.durableLsn()).toBeGreaterThan(durableLsn);
    await time.until('recorder', () => recorder.path.close());
  } finally {
    time.uninstall();
  }
}, 30_000);
