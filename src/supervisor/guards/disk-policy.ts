// What a topic does when there is no room for all. Pure.
//
// The policy says what happens to rows of streams, whose producers can be held back:
//   `block` (default)  no row is dropped: a connection that brings a stopped topic is not read from until the
//                      topic goes on. One that has brought orders or fills too is read from up to level halt:
//                      then they wait as well, since a connection is read in order
//   `drop`             from the level at which the topic stops its rows are dropped, acknowledged, and
//                      counted as lost: what room is left is for the others
// Datagrams cannot be held back: from that level on they are dropped and counted under either policy.

import { RecorderError } from '../../errors.ts';
import type { DiskLevel } from './disk-monitor.ts';
import { FIRST_TO_GO, RESERVED_FOR } from './topic-priority.ts';

export type FullPolicy = 'block' | 'drop';

/**
 * Policies of all topics; a topic that is not named blocks.
 * @throws RecorderError for a name that is no topic
 */
export function policiesOf(
  topics: readonly string[],
  given: Readonly<Record<string, FullPolicy>>,
): Map<string, FullPolicy> {
  for (const name of Object.keys(given)) {
    if (topics.includes(name)) continue;
    const message = `HFT_WAL_FULL_POLICY_${name.toUpperCase()}: there is no topic ${name}`;
    throw new RecorderError('config_invalid', message, { hint: `topics are ${topics.join(', ')}` });
  }
  return new Map(topics.map((topic) => [topic, given[topic] ?? 'block']));
}

/**
 * Topics that are stopped now, and whether all their rows are dropped or datagrams alone.
 * @param writable whether the WAL has room; with room, orders and fills never stop
 */
export function stoppedTopics(
  policies: ReadonlyMap<string, FullPolicy>,
  level: DiskLevel,
  writable: boolean,
): Map<string, 'all' | 'datagrams'> {
  const stopped = new Map<string, 'all' | 'datagrams'>();
  for (const [topic, policy] of policies) {
    if (isStopped(topic, level)) stopped.set(topic, policy === 'drop' ? 'all' : 'datagrams');
    // Datagrams of orders and fills wait in memory, up to its bound.
    else if (level === 'halt' && !writable && policy === 'drop') stopped.set(topic, 'all');
  }
  return stopped;
}

/** Topics and what is dropped of them, as text. */
export function describeStopped(stopped: ReadonlyMap<string, 'all' | 'datagrams'>): string {
  return [...stopped].map(([topic, rows]) => (rows === 'all' ? `${topic} (dropped)` : topic)).join(', ');
}

function isStopped(topic: string, level: DiskLevel): boolean {
  if (level === 'critical') return FIRST_TO_GO.includes(topic);
  return level === 'halt' && !RESERVED_FOR.includes(topic);
}
