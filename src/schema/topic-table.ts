// Topics found by name and by file identifier.

import { identifierWord, type TopicModel } from './model.ts';
import { SchemaError } from './reflection.ts';

export interface Registry {
  topics: readonly TopicModel[];
  /** Position in `topics` of the topic with this identifier (u32 at byte 4 of a frame), -1 for none. */
  topicIndexByIdentifier(word: number): number;
  topicByIdentifier(word: number): TopicModel | undefined;
  topicByName(name: string): TopicModel | undefined;
}

/**
 * Makes a registry of the given topics.
 * @throws SchemaError where two topics share a name, a table or an identifier
 */
export function createRegistry(topics: readonly TopicModel[]): Registry {
  for (const key of ['topic', 'table', 'identifier'] as const) {
    const seen = new Map<string, string>();
    for (const model of topics) {
      const other = seen.get(model[key]);
      if (other !== undefined)
        throw new SchemaError(`${other} and ${model.typeName} both have ${key} "${model[key]}"`);
      seen.set(model[key], model.typeName);
    }
  }
  const byIdentifier = new Map(topics.map((model, index) => [identifierWord(model.identifier), index]));
  const byName = new Map(topics.map((model) => [model.topic, model]));
  const topicIndexByIdentifier = (word: number) => byIdentifier.get(word >>> 0) ?? -1;
  return {
    topics,
    topicIndexByIdentifier,
    topicByIdentifier: (word) => topics[topicIndexByIdentifier(word)],
    topicByName: (name) => byName.get(name),
  };
}
