// The topic of test/golden/all-types: every kind of field that a schema can have. Generated like the
// program's own topics, known to the tests only.

import type { GeneratedClass } from '../../src/schema/generic.ts';
import { readTopicModel } from '../../src/schema/model.ts';
import { generatedTopics } from '../golden/all-types/generated/index.ts';

const [entry] = generatedTopics;

export const allTypes = {
  model: readTopicModel(new Uint8Array(Buffer.from(entry.bfbsBase64, 'base64'))),
  generatedClass: entry.generatedClass as unknown as GeneratedClass,
};
