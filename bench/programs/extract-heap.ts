// Bytes that extraction allocates on the heap: run with BUN_JSC_useGC=0, so that nothing is collected and the
// heap's growth is all that was ever allocated. Argument: a kind. Prints one line of JSON:
// {extractor, generic}, bytes a row.

import { heapStats } from 'bun:jsc';
import { createBatch } from '../../src/columns/batch.ts';
import { createExtractor, type Extract } from '../../src/schema/extractor.ts';
import { createGeneric } from '../../src/schema/generic.ts';
import { generatedClassOf } from '../../src/schema/registry.ts';
import { type Chunk, chunkOf, FRAMES, fill } from '../support/extract-input.ts';

const EXTRACTOR_ROWS = 1_000_000;
/** The generic path allocates up to 32 GB a million rows. */
const GENERIC_ROWS = 10_000;
/** The compiled code and the buffers of the batch come with the first passes. */
const WARM_UP_ROWS = 60_000;

function growthPerRow(extract: Extract, chunk: Chunk, rows: number, warmUpRows: number): number {
  const batch = createBatch(chunk.model, FRAMES);
  const run = (count: number) => {
    for (let done = 0; done < count; done += FRAMES) fill(extract, chunk, batch);
  };
  const allocated = () => heapStats().heapCapacity + heapStats().extraMemorySize;
  run(warmUpRows);
  const before = allocated();
  run(rows);
  return (allocated() - before) / (Math.ceil(rows / FRAMES) * FRAMES);
}

const chunk = await chunkOf(process.argv[2]!);
const generic = createGeneric(chunk.model, generatedClassOf(chunk.model));
const growth = {
  extractor: growthPerRow(createExtractor(chunk.model), chunk, EXTRACTOR_ROWS, WARM_UP_ROWS),
  generic: growthPerRow(generic, chunk, GENERIC_ROWS, FRAMES),
};
process.stdout.write(`${JSON.stringify(growth)}\n`);
