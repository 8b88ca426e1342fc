// Appends blocks to the WAL in argv[2] as fast as it can, and prints the durable LSN after each sync, until
// it is killed. Row n of the log has the payload byte n % 251, so that a reader knows what must be there.

import { openWal } from '../../src/wal/open.ts';
import { TOPICS } from '../support/wal-fixture.ts';

const wal = await openWal({
  dir: process.argv[2]!,
  recorder: 'killed',
  topics: TOPICS,
  segmentSizeBytes: 256 * 1024,
});
process.stdout.write(`open ${wal.nextLsn}\n`);
for (;;) {
  for (let count = 0; count < 20; count++) {
    const lsn = Number(wal.nextLsn);
    const rowCount = 1 + ((lsn * 7) % 40);
    const payloadSizeBytes = rowCount * 64;
    wal.append({
      topicIndex: lsn % TOPICS.length,
      rowCount,
      payloadSizeBytes,
      firstSeq: BigInt(lsn + 1),
      lastSeq: BigInt(lsn + rowCount),
      firstStream: 0,
      lastStream: 0,
      streamCount: 1,
      firstIngestTs: 0n,
      lastIngestTs: 0n,
      endsGroup: count === 19,
      encode: (target) => {
        for (let row = 0; row < rowCount; row++) target.fill((lsn + row) % 251, row * 64, row * 64 + 64);
      },
    });
  }
  const { durableLsn } = await wal.sync();
  process.stdout.write(`durable ${durableLsn}\n`);
}
