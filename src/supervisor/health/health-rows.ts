// Changes of the health as rows of the topic risk_log (table hft.logs), so that SQL can ask what was wrong
// when. They take the same path as everything else, under a source of the recorder's own.

import { PLAIN_SESSION_PREFIX, type Stream, type StreamTable } from '../../net/session.ts';
import { createFrameBuilder } from '../../schema/build-frame.ts';
import type { Ingest } from '../ingest/ingest.ts';
import { HEALTH_STATES, type HealthChange } from './health.ts';

const HEALTH_TOPIC = 'risk_log';
/** `source` of the rows that a recorder writes of itself. No Hello may name it. */
export const OWN_SOURCE = 'recorder';
const NS_PER_MS = 1_000_000n;

export interface HealthRows {
  /** Records a change. Not to be called from within the WAL or the sealing of a batch. */
  record(change: HealthChange): void;
  close(): void;
}

/** Rows into `ingest`; null where no schema has the topic. */
export function createHealthRows(ingest: Ingest, streams: StreamTable): HealthRows | null {
  const topic = ingest.topics.find(({ model }) => model.topic === HEALTH_TOPIC);
  if (topic === undefined) return null;
  const builder = createFrameBuilder(topic.model);
  // Nobody resumes the session: recovery need not remember it.
  const session = `${PLAIN_SESSION_PREFIX}health-${Date.now().toString(36)}-${process.pid.toString(36)}`;
  streams.reserveSource(OWN_SOURCE);
  const stream: Stream = streams.open(OWN_SOURCE, session, false);
  return {
    record(change) {
      stream.receivedSeq += 1;
      streams.touch(stream);
      ingest.record(topic, builder.build(rowOf(change)), stream.id, stream.receivedSeq);
    },
    close: () => streams.release(stream),
  };
}

function rowOf({ kind, atMs, from, to, condition, added }: HealthChange): Record<string, unknown> {
  const { tag, subject, state, message, command, count } = condition;
  return {
    ts: BigInt(atMs) * NS_PER_MS,
    rule: 'health',
    reason_code: tag,
    metric: state === 'data_loss' ? 'data_loss' : 'health_state',
    // Rows lost; of every other change the state: 0 healthy, 1 degraded, 2 critical, 3 data_loss.
    value: state === 'data_loss' && kind !== 'acknowledged' ? added : HEALTH_STATES.indexOf(to),
    context: JSON.stringify({ kind, from, to, tag, subject, state, message, command, count, added }),
  };
}
