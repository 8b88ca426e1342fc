// Gaps in sequence numbers as rows of the topic `gaps`, recorded on the same path as everything else.

import { nowNs } from '../../clock.ts';
import { assert } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import type { GapEvent } from '../../net/frame-sink.ts';
import { createFrameBuilder } from '../../schema/build-frame.ts';
import type { Ingest } from './ingest.ts';

export const GAPS_TOPIC = 'gaps';
/** Values of the enum GapState in schemas/gaps.fbs. */
export const GAP_STATE = { missing: 1, filled_late: 2 } as const;

/** Returns a function that records a gap as a row and logs it. */
export function createGapRecorder(ingest: Ingest, logger: Logger): (event: GapEvent) => void {
  const topic = ingest.topics.find(({ model }) => model.topic === GAPS_TOPIC);
  assert(topic !== undefined, 'the topic gaps is one of the schemas');
  const builder = createFrameBuilder(topic.model);
  return ({ streamId, source, session, firstSeq, lastSeq, line, state }) => {
    const row = {
      first_seq: BigInt(firstSeq),
      last_seq: BigInt(lastSeq),
      line,
      detected_ts: nowNs(),
      state: GAP_STATE[state],
    };
    ingest.record(topic, builder.build(row), streamId, firstSeq);
    const text = state === 'missing' ? 'never came' : 'came late, after they had been given up';
    logger.warn({ source, session, line }, `sequence numbers ${firstSeq} to ${lastSeq} ${text}`);
  };
}
