// Columns come from the schema, never from what the first row happens to have.

import { expect, test } from 'bun:test';
import { commitRow, createBatch } from '../../src/columns/batch.ts';
import { blockSizeBytes, encodeBlock, openBlock } from '../../src/columns/block-codec.ts';
import { rowAt } from '../../src/columns/block-rows.ts';
import { createFrameBuilder, type Row } from '../../src/schema/build-frame.ts';
import { createExtractor } from '../../src/schema/extractor.ts';
import { createGeneric } from '../../src/schema/generic.ts';
import { generatedClassOf, topicByName } from '../../src/schema/registry.ts';
import { testStream } from '../support/frames.ts';

const model = topicByName('latency_spans')!;
const full: Row = { ts: 5n, trace_id: 't', stage: 'risk', strategy_id: 's', symbol: 'X', latency_ns: -3n };

for (const [name, extract] of [
  ['extractor', createExtractor(model)],
  ['generic path', createGeneric(model, generatedClassOf(model))],
] as const) {
  test(`${name}: columns that the first row of a batch lacks are there for the rows after it`, () => {
    const batch = createBatch(model, 4);
    const builder = createFrameBuilder(model);
    for (const row of [{}, full, {}]) {
      const frame = builder.build(row);
      const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
      expect(extract(view, frame, 0, frame.length, batch)).toBe(0);
      commitRow(batch, 1, batch.rowCount + 1, 0, 0, 0);
    }
    const payload = new Uint8Array(blockSizeBytes(batch, [testStream]));
    encodeBlock(batch, [testStream], payload);
    const block = openBlock(model, payload, 3);
    const rows = [0, 1, 2].map((row) => rowAt(block, row, { lsn: 0n, recorder: 'r', walId: 1n }));
    expect(rows[1]).toMatchObject({ trace_id: 't', stage: 'risk', strategy_id: 's', symbol: 'X' });
    expect(String(rows[1]!['latency_ns'])).toBe('-3');
    for (const row of [rows[0]!, rows[2]!]) {
      expect(Object.keys(row)).toEqual(Object.keys(rows[1]!));
      expect(row['stage']).toBe('');
    }
  });
}
