// The topics this program was built with; made once at start-up from the generated reflection files.

import { generatedTopics } from './generated/index.ts';
import { models } from './generated/models.ts';
import type { GeneratedClass } from './generic.ts';
import type { TopicModel } from './model.ts';
import { SchemaError } from './reflection.ts';
import { createRegistry } from './topic-table.ts';

const registry = createRegistry(
  generatedTopics.map(({ bfbsBase64 }, index) => {
    const bfbs = new Uint8Array(Buffer.from(bfbsBase64, 'base64'));
    const model = models[index] as Omit<TopicModel, 'bfbs' | 'fingerprint'>;
    return { ...model, bfbs, fingerprint: Bun.hash.xxHash3(bfbs) };
  }),
);

/** All topics, in the order of their schema files' names. */
export const { topics, topicIndexByIdentifier, topicByIdentifier, topicByName } = registry;

/** flatc's own class of a topic, for the generic path. */
export function generatedClassOf(model: TopicModel): GeneratedClass {
  const entry = generatedTopics.find(({ topic }) => topic === model.topic);
  if (entry === undefined)
    throw new SchemaError(`no generated class for topic ${model.topic}`, 'bun run generate');
  return entry.generatedClass as unknown as GeneratedClass;
}
