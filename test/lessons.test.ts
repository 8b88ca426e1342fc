// Ways in which recorders and pipelines have lost, doubled or spoilt data, each with the tests that stand
// against it here. The tests are where they belong; this table says which they are, and fails when one goes.

import { describe, expect, test } from 'bun:test';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dir, '..');

/** What went wrong, and file and title (or the fixed part of it) of each test. */
const lessons: readonly { failure: string; tests: readonly (readonly [file: string, title: string])[] }[] = [
  {
    failure: 'a fill was acknowledged before it was on disk, and gone after a kill',
    tests: [
      ['test/net/stream-listener.test.ts', 'are welcomed, and acknowledged only after the sync'],
      ['test/model/mutants.ts', 'frames are acknowledged after the sync, not before it'],
      ['test/chaos/chaos.test.ts', 'what was acknowledged is in ClickHouse once, whatever is killed'],
    ],
  },
  {
    failure: 'one bad row took the rows beside it with it',
    tests: [
      ['test/schema/extractor.test.ts', 'a refused frame leaves its neighbours in the batch as they are'],
      ['test/integration/bad-input.test.ts', 'a session between good and bad frames'],
    ],
  },
  {
    failure: 'a refused table made a new dead letter at every look, and what came after it never loaded',
    tests: [
      [
        'test/sink/delivery.test.ts',
        'a refused group becomes one dead letter after the given number of retries',
      ],
      ['test/sink/flusher.test.ts', 'a refused group becomes a dead letter; the topic and the others go on'],
    ],
  },
  {
    failure: 'of two announced rows one was loaded, and the file was put away as done',
    tests: [
      [
        'test/supervisor/replay/reconcile.test.ts',
        'names exactly the rows that are missing, pending, double or foreign',
      ],
      ['test/sink/delivery.test.ts', 'random failures: each row is stored once, or is in a dead letter'],
      [
        'test/supervisor/replay/replay.test.ts',
        'a letter of which the server has a part gets the rest, from the WAL',
      ],
    ],
  },
  {
    failure: 'one error of the disk made ten rows out of five, by two owners of the same rows',
    tests: [
      [
        'test/wal/faults.test.ts',
        'a failed sync is told, is not repeated, and its rows are written again elsewhere',
      ],
      ['test/wal/faults.test.ts', 'what a failed write leaves behind is never read as rows, or the log ends'],
      ['test/model/durability.test.ts', 'what was acknowledged is delivered once, in order, nothing else is'],
    ],
  },
  {
    failure: 'fills were dropped for want of space while there was room for them',
    tests: [
      [
        'test/supervisor/guards/disk-monitor.test.ts',
        'market data stops at critical, the rest at halt, orders and fills not while there is room',
      ],
      [
        'test/supervisor/guards/disk-monitor.test.ts',
        'rows of streams are dropped only where the policy says so',
      ],
      ['test/supervisor/guards/memory-guard.test.ts', 'market data goes first, fills last'],
    ],
  },
  {
    failure: 'prices and fees of one row had two scales',
    tests: [
      ['test/schema/scale.test.ts', 'every price, fee, tax and quantity of every topic has the same scale'],
    ],
  },
  {
    failure: 'a rebuilt table had lost columns, nothing could be inserted for months, and nobody was told',
    tests: [
      ['test/sink/table.test.ts', 'a mismatch names table, column, both types, and the ALTER to run'],
      [
        'test/sink/flusher.test.ts',
        'a table that lost a column blocks its topic alone, until it is put right',
      ],
      [
        'test/supervisor/health/health.test.ts',
        'a blocked topic is critical until it is delivered; damage is a loss with its rows',
      ],
    ],
  },
  {
    failure: 'a process without metrics showed zeros, and the dashboards looked healthy',
    tests: [
      [
        'test/observe/metrics.test.ts',
        'absent is not zero: without a value there is no sample, also after there was one',
      ],
    ],
  },
  {
    failure: 'a time-out after an insert that had succeeded doubled its rows',
    tests: [
      ['test/sink/flusher.test.ts', 'answers that are lost after the insert do not double rows'],
      ['test/model/mutants.ts', 'every attempt at a group has the same token'],
      ['test/model/mutants.ts', 'a group has its boundaries in its token'],
    ],
  },
  {
    failure: 'columns that the first row of a batch lacked vanished for all its rows',
    tests: [
      [
        'test/columns/absent-columns.test.ts',
        'columns that the first row of a batch lacks are there for the rows after it',
      ],
    ],
  },
  {
    failure: 'a degraded mode dropped rows and counted none',
    tests: [
      [
        'test/supervisor/ingest/ingest-drops.test.ts',
        'shed topics lose datagrams and no row of a stream; stopped ones lose both',
      ],
      ['test/supervisor/health/health.test.ts', 'a loss is counted, and stays until it is acknowledged'],
    ],
  },
  {
    failure: 'a slow insert of market data held up the fills',
    tests: [
      [
        'test/model/independent-topics.test.ts',
        'an insert of market data that never ends does not hold up a single fill',
      ],
    ],
  },
  {
    failure: 'a buffer refused to start after damage and was deleted, good part and all',
    tests: [
      ['test/wal/repair.test.ts', 'repaired, and every whole block is there'],
      ['test/wal/damage.test.ts', 'is found by verify, and no cursor gives out a wrong row'],
    ],
  },
  {
    failure: '"acknowledged" meant the page cache, and the power failed',
    tests: [
      [
        'test/wal/writer.test.ts',
        'policy interval and none: written is durable, syncs come by themselves or not',
      ],
      [
        'test/wal/faults.test.ts',
        'what a failed sync has left in memory alone is written to the disk by the next',
      ],
      ['README.md', '| acknowledged | recorder killed | kernel crash, power loss |'],
    ],
  },
  {
    failure: 'a file went before the cursor behind it was durable: a crash loop',
    tests: [
      [
        'test/supervisor/guards/retention.test.ts',
        'checkpoint first, unlink second, also when the power fails in between',
      ],
      ['test/model/mutants.ts', 'the flush log is durable before a segment goes'],
    ],
  },
  {
    failure: 'a failed sync was tried again, and its success believed',
    tests: [
      [
        'test/wal/faults.test.ts',
        'a failed sync is told, is not repeated, and its rows are written again elsewhere',
      ],
      ['test/sink/flush-log.test.ts', 'a failed sync breaks the log for good: nothing may be sent'],
      ['test/model/mutants.ts', 'a sync that failed is not tried again and believed'],
    ],
  },
  {
    failure: 'a full disk under a sparse map ended the process with SIGBUS',
    tests: [
      [
        'test/wal/faults.test.ts',
        'a full disk shows when a segment is made; appends use the room that is there, and resume',
      ],
      [
        'test/wal/faults.test.ts',
        'a disk that is full at the start refuses to open, and gives lock and files back',
      ],
    ],
  },
  {
    failure: 'one unknown value of an enumeration dropped the message',
    tests: [['test/sink/encoders.test.ts', 'codes outside an enumeration are stored and shown as numbers']],
  },
  {
    failure: 'gaps were found months later, by others',
    tests: [
      [
        'test/net/datagram-listener.test.ts',
        'reports a gap as a row-worthy event when the waiting time has passed',
      ],
      ['test/net/stream-listener.test.ts', 'a producer that goes on beyond what was received leaves a gap'],
    ],
  },
];

describe('a test stands against each failure', () => {
  for (const { failure, tests } of lessons) {
    test(failure, () => {
      expect(tests.length).toBeGreaterThan(0);
      for (const [file, title] of tests) {
        const path = join(root, file);
        expect(`${file} ${existsSync(path) ? 'exists' : 'is missing'}`).toBe(`${file} exists`);
        expect(readFileSync(path, 'utf8')).toContain(title);
      }
    });
  }

  test('all twenty are there', () => {
    expect(new Set(lessons.map(({ failure }) => failure)).size).toBe(20);
  });
});
