// What a vtable says of a topic's columns.

import type { TopicModel } from './model.ts';

/** Offset of each column's field in the table, 0 where it is absent. */
export function fieldOffsets(model: TopicModel, vtable: Uint8Array): number[] {
  const view = new DataView(vtable.buffer, vtable.byteOffset, vtable.byteLength);
  return model.columns.map(({ slot }) => {
    const entry = 4 + 2 * slot;
    return entry < vtable.length ? view.getUint16(entry, true) : 0;
  });
}
