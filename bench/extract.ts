// extract/<topic>: nanoseconds a frame from the bytes of a chunk to committed columns, by the extractor; the
// baseline is the generic path (verifier, flatc's class, row object). Ratio: how many times faster. Both fill
// batches that must be equal, byte for byte, before anything is timed.

import { type Batch, commitRow, createBatch, resetBatch } from '../src/columns/batch.ts';
import { blockSizeBytes, encodeBlock } from '../src/columns/block-codec.ts';
import { createFrameBuilder } from '../src/schema/build-frame.ts';
import { createExtractor, type Extract } from '../src/schema/extractor.ts';
import { createGeneric } from '../src/schema/generic.ts';
import type { TopicModel } from '../src/schema/model.ts';
import { generatedClassOf, topics } from '../src/schema/registry.ts';
import { sampleRows } from './sample-rows.ts';
import { type BenchSuite, medianNs } from './suite.ts';

const FRAMES = 2048;

/** Size-prefixed frames in one buffer, as a chunk of a stream, and where each begins and ends. */
function chunkOf(model: TopicModel): {
  bytes: Uint8Array;
  view: DataView;
  starts: Int32Array;
  ends: Int32Array;
} {
  const builder = createFrameBuilder(model);
  const frames = sampleRows(model, FRAMES).map((row) => builder.buildSizePrefixed(row));
  const bytes = new Uint8Array(Buffer.concat(frames));
  const starts = new Int32Array(FRAMES);
  const ends = new Int32Array(FRAMES);
  let position = 0;
  frames.forEach((frame, i) => {
    starts[i] = position + 4;
    position += frame.length;
    ends[i] = position;
  });
  return { bytes, view: new DataView(bytes.buffer), starts, ends };
}

function fill(
  extract: Extract,
  { bytes, view, starts, ends }: ReturnType<typeof chunkOf>,
  batch: Batch,
): void {
  resetBatch(batch);
  for (let i = 0; i < FRAMES; i++) {
    const code = extract(view, bytes, starts[i]!, ends[i]!, batch);
    if (code !== 0) throw new Error(`frame ${i} was refused with code ${code}`);
    commitRow(batch, 1, i + 1, 0, 0, 0);
  }
}

function payloadOf(batch: Batch): Uint8Array {
  const streams = [{ source: Buffer.from('bench'), session: Buffer.from('1') }];
  const payload = new Uint8Array(blockSizeBytes(batch, streams));
  encodeBlock(batch, streams, payload);
  return payload;
}

export const extractSuite: BenchSuite = async (options, wanted) => {
  const results = [];
  for (const model of topics) {
    const name = `extract/${model.topic}`;
    if (!wanted(name)) continue;
    const chunk = chunkOf(model);
    const extract = createExtractor(model);
    const generic = createGeneric(model, generatedClassOf(model));
    const [batch, genericBatch] = [createBatch(model, FRAMES), createBatch(model, FRAMES)];
    fill(extract, chunk, batch);
    fill(generic, chunk, genericBatch);
    if (Buffer.compare(payloadOf(batch), payloadOf(genericBatch)) !== 0) {
      throw new Error(`${name}: extractor and generic path give different blocks`);
    }
    const value = (await medianNs(() => fill(extract, chunk, batch), options)) / FRAMES;
    const baseline = (await medianNs(() => fill(generic, chunk, genericBatch), options)) / FRAMES;
    results.push({ name, value, unit: 'ns/frame', baseline, ratio: baseline / value });
  }
  return results;
};
