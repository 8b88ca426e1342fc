// What a topic's collector says of itself.

import { expect, test } from 'bun:test';
import { GroupCollector } from '../../src/sink/group-collector.ts';
import type { GroupReader } from '../../src/sink/group-reader.ts';
import type { HorizonWatch } from '../../src/sink/horizon-watch.ts';

test('a read that failed may have read rows: what lies before the reader is not all given out', async () => {
  const reader: GroupReader = {
    fill: () => {
      throw Object.assign(new Error('EIO'), { code: 'EIO' });
    },
    position: 22n,
    close: () => {},
  };
  const collector = new GroupCollector({
    reader,
    watch: { durableLsn: () => 30n } as unknown as HorizonWatch,
    flushIntervalMs: 0,
    signal: new AbortController().signal,
    isFree: () => true,
    isDraining: () => false,
  });
  expect(collector.hasRows).toBe(false);
  await expect(collector.next()).rejects.toMatchObject({ code: 'EIO' });
  expect(collector.hasRows).toBe(true);
});
