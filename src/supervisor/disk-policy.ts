// What a topic does when there is no room for all. Pure.
//
// `drop`: rows are dropped, each counted, from the level at which the topic stops; what room is left is for
// the others. `block`: no row is dropped; the topic is written as long as there is room, then everything
// waits and producers are held back.

import { RecorderError } from '../errors.ts';
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
 * Topics whose rows are dropped now.
 * @param writable whether the WAL has room; without it orders and fills too are dropped where their policy
 * says so
 */
export function stoppedTopics(
  policies: ReadonlyMap<string, FullPolicy>,
  level: DiskLevel,
  writable: boolean,
): string[] {
  const dropping = [...policies].filter(([, policy]) => policy === 'drop').map(([topic]) => topic);
  if (level === 'critical') return dropping.filter((topic) => FIRST_TO_GO.includes(topic));
  if (level === 'halt') return dropping.filter((topic) => !writable || !RESERVED_FOR.includes(topic));
  return [];
}
