// extract/<topic>, extract/market_data/<kind>: nanoseconds a frame from the bytes of a chunk to committed
// columns, by the extractor; the baseline is the generic path (verifier, flatc's class, row object). Ratio:
// how many times faster. Both fill batches that must be equal, byte for byte, before anything is timed.
//
//   …/heap    what both allocate on the heap, MB a million rows; ratio: share of the generic path's

import { join } from 'node:path';
import { type Batch, createBatch } from '../src/columns/batch.ts';
import { blockSizeBytes, encodeBlock } from '../src/columns/block-codec.ts';
import { createExtractor } from '../src/schema/extractor.ts';
import { createGeneric } from '../src/schema/generic.ts';
import { generatedClassOf } from '../src/schema/registry.ts';
import { type BenchOptions, type BenchResult, type BenchSuite, medianNs } from './suite.ts';
import { chunkOf, extractKinds, FRAMES, fill } from './support/extract-input.ts';

/** Frames of one timed call: few, so that it ends before a busy machine takes the core away. */
const GENERIC_FRAMES = 128;
/** What an engine sends by the million. */
const HEAP_KINDS = ['market_data/ticks', 'market_data/quotes', 'market_data/depth-10', 'orders', 'fills'];

function payloadOf(batch: Batch): Uint8Array {
  const streams = [{ source: Buffer.from('bench'), session: Buffer.from('1') }];
  const payload = new Uint8Array(blockSizeBytes(batch, streams));
  encodeBlock(batch, streams, payload);
  return payload;
}

async function measureTime(kind: string, { quick }: BenchOptions): Promise<BenchResult> {
  const name = `extract/${kind}`;
  const chunk = await chunkOf(kind);
  const { model } = chunk;
  const extract = createExtractor(model);
  const generic = createGeneric(model, generatedClassOf(model));
  const [batch, genericBatch] = [createBatch(model, FRAMES), createBatch(model, FRAMES)];
  fill(extract, chunk, batch);
  fill(generic, chunk, genericBatch);
  if (Buffer.compare(payloadOf(batch), payloadOf(genericBatch)) !== 0) {
    throw new Error(`${name}: extractor and generic path give different blocks`);
  }
  const [warmUp, genericWarmUp] = quick ? [100, 200] : [400, 1000];
  const value = (await medianNs(() => fill(extract, chunk, batch), quick, warmUp)) / FRAMES;
  const generically = () => fill(generic, chunk, genericBatch, GENERIC_FRAMES);
  const baseline = (await medianNs(generically, quick, genericWarmUp)) / GENERIC_FRAMES;
  return { name, value, unit: 'ns/frame', baseline, ratio: baseline / value };
}

async function measureHeap(kind: string): Promise<BenchResult> {
  const program = join(import.meta.dir, 'programs/extract-heap.ts');
  const child = Bun.spawn([process.execPath, program, kind], {
    env: { ...process.env, BUN_JSC_useGC: '0' },
    stderr: 'inherit',
  });
  const output = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`extract-heap ended with code ${child.exitCode}`);
  // Bytes a row are MB a million rows.
  const { extractor: value, generic: baseline } = JSON.parse(output) as Record<
    'extractor' | 'generic',
    number
  >;
  return { name: `extract/${kind}/heap`, value, unit: 'MB/million rows', baseline, ratio: value / baseline };
}

export async function* extractSuite(...[options, wanted]: Parameters<BenchSuite>): ReturnType<BenchSuite> {
  for (const kind of extractKinds) {
    if (wanted(`extract/${kind}`)) yield await measureTime(kind, options);
  }
  for (const kind of options.quick ? HEAP_KINDS.slice(0, 1) : HEAP_KINDS) {
    if (wanted(`extract/${kind}/heap`)) yield await measureHeap(kind);
  }
}
