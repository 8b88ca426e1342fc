// Two small topics for the model, and the topic of the gaps, which every recorder has.
//
// Compiled from this text with Tick/ticks/MTCK and Fill/fills/MFIL (flatc -b --schema):
//   table Tick (topic: "ticks", clickhouse: "ticks", order_by: "id", partition_by: "day") {
//     id: ulong; text: string;
//   }
//   root_type Tick; file_identifier "MTCK";

import { createFrameBuilder } from '../../src/schema/build-frame.ts';
import { createExtractor, type Extract } from '../../src/schema/extractor.ts';
import { readTopicModel, type TopicModel } from '../../src/schema/model.ts';
import { topicByName } from '../../src/schema/registry.ts';
import { TICKS_BFBS } from './ticks-bfbs.ts';

function renamed(from: string, to: string): Uint8Array {
  const text = Buffer.from(TICKS_BFBS, 'base64').toString('latin1');
  return new Uint8Array(Buffer.from(text.replaceAll('ticks', from).replaceAll('MTCK', to), 'latin1'));
}

const [ticks, fills] = [renamed('ticks', 'MTCK'), renamed('fills', 'MFIL')].map(readTopicModel) as [
  TopicModel,
  TopicModel,
];

/** What producers send. */
export const sentTopics: readonly TopicModel[] = [fills, ticks];
export const modelTopics: readonly TopicModel[] = [...sentTopics, topicByName('gaps')!];

const builders = new Map(sentTopics.map((model) => [model, createFrameBuilder(model)]));

/** A size-prefixed frame. */
export function frameOf(model: TopicModel, id: bigint, text: string): Uint8Array {
  return builders.get(model)!.buildSizePrefixed({ id, text });
}

const extractors = new Map<TopicModel, Extract>();

/** Extractors hold no state: one for all histories. */
export function extractorOf(model: TopicModel): Extract {
  let extract = extractors.get(model);
  if (extract === undefined) {
    extract = createExtractor(model);
    extractors.set(model, extract);
  }
  return extract;
}
