// The function that writes the rows of a block as RowBinary, generated from a topic's model: one straight
// piece of WebAssembly for a row, without dispatch on column kinds.
//
//   run(fromRow, toRow, output) → end of what was written
//
// What it is told lies at the beginning of its memory: u64 WAL id, u64 LSN of `fromRow`, and u32 addresses,
// in the order of `factsOf`. Strings are copied by words of 8 bytes: up to OVERRUN_BYTES after the end of the
// output are written too, and as many after a source are read.

import type { BlockView } from '../columns/block-codec.ts';
import type { ColumnModel, TopicModel } from '../schema/model.ts';
import { type Code, copyWords, Locals, SHIFTS, wasm } from '../wasm-code.ts';
import { MAX_VARINT_SIZE_BYTES } from './byte-sink.ts';

const FACTS_AT = 16;

export interface RowCode {
  module: WebAssembly.Module;
  /** Of what the function is told. */
  factsSizeBytes: number;
  factAt(index: number): number;
  /** Most bytes of a row apart from its strings, its arrays' elements, and its stream's prefix. */
  fixedSizeBytes: number;
}

/**
 * Addresses of a block's parts in the order in which the function wants them: for each column its null map
 * where it has one, its values, or its offsets and its data; then stream indexes, seq, ingest_ts, prefixes.
 * @param shift from a view's byteOffset to its address
 */
export function factsOf(view: BlockView, shift: number, prefixesAt: number): number[] {
  const facts: number[] = [];
  for (const { nulls, offsets, bytes } of view.columns) {
    if (nulls !== null) facts.push(shift + nulls.byteOffset);
    if (offsets !== null) facts.push(shift + offsets.byteOffset);
    facts.push(shift + bytes.byteOffset);
  }
  const { streamIndex, seqWords, ingestTsWords } = view;
  for (const part of [streamIndex, seqWords, ingestTsWords]) facts.push(shift + part.byteOffset);
  return [...facts, prefixesAt];
}

/** Generates the function for a topic. */
export function rowCode(model: TopicModel): RowCode {
  const writer = new RowWriter();
  const cells = model.columns.map((column) => writer.cell(column));
  const provenance = writer.provenance();
  const { module, factCount } = writer.build([cells, provenance]);
  const factAt = (index: number) => FACTS_AT + index * 4;
  const fixedSizeBytes = model.columns.reduce((sum, column) => sum + mostFixedBytes(column), 32);
  return { module, factsSizeBytes: factAt(factCount), factAt, fixedSizeBytes };
}

/** Most bytes of a row that a column takes apart from the data of a string or an array. */
function mostFixedBytes(column: ColumnModel): number {
  const value = column.kind === 'fixed' ? column.widthBytes : MAX_VARINT_SIZE_BYTES;
  return value + (column.nullable ? 1 : 0);
}

/** Collects the code of a row and the locals that it needs. */
class RowWriter {
  readonly #locals = new Locals(3);
  readonly #row = 0;
  readonly #toRow = 1;
  readonly #output = 2;
  readonly #from = this.#locals.i32();
  readonly #count = this.#locals.i32();
  readonly #end = this.#locals.i32();
  readonly #walId = this.#locals.i64();
  readonly #lsn = this.#locals.i64();
  /** Locals that hold the facts, in their order. */
  readonly #facts: number[] = [];

  /** A column's cell. */
  cell(column: ColumnModel): Code {
    const nulls = column.nullable ? this.#fact() : null;
    const value = column.kind === 'fixed' ? this.#fixed(column) : this.#variable(column);
    if (nulls === null) return value;
    const isNull = [wasm.get(nulls), wasm.get(this.#row), wasm.add, wasm.load8()];
    return [
      this.#store([isNull, wasm.tee(this.#count)], 'store8', 1),
      [wasm.get(this.#count), wasm.isZero],
      wasm.if(value),
    ];
  }

  /** What comes after a row's own columns: recorder, source, session, seq, ingest_ts, wal_id, wal_lsn. */
  provenance(): Code {
    const [streamIndex, seq, ingestTs, prefixes] = [this.#fact(), this.#fact(), this.#fact(), this.#fact()];
    const stream = [this.#at(streamIndex, 4), wasm.load()];
    const entry = [stream, wasm.const(3), wasm.shiftLeft, wasm.get(prefixes), wasm.add];
    return [
      [entry, wasm.tee(this.#from), wasm.load(4), wasm.set(this.#count)],
      [wasm.get(this.#from), wasm.load(), wasm.set(this.#from)],
      this.#copy(),
      [wasm.get(this.#output), this.#at(seq, 8), wasm.load64(), wasm.store64()],
      [wasm.get(this.#output), this.#at(ingestTs, 8), wasm.load64(), wasm.store64(8)],
      [wasm.get(this.#output), wasm.get(this.#walId), wasm.store64(16)],
      [wasm.get(this.#output), wasm.get(this.#lsn), wasm.store64(24)],
      [wasm.get(this.#lsn), wasm.const64(1n), wasm.add64, wasm.set(this.#lsn)],
      this.#advance(wasm.const(32)),
    ];
  }

  /** The whole function around the code of a row. */
  build(rowCode: Code): { module: WebAssembly.Module; factCount: number } {
    const facts = this.#facts.map((local, index) => [
      [wasm.const(0), wasm.load(FACTS_AT + index * 4), wasm.set(local)],
    ]);
    const body = [
      facts,
      [wasm.const(0), wasm.load64(0), wasm.set(this.#walId)],
      [wasm.const(0), wasm.load64(8), wasm.set(this.#lsn)],
      wasm.while(
        [wasm.get(this.#row), wasm.get(this.#toRow), wasm.isLess],
        [rowCode, [wasm.get(this.#row), wasm.const(1), wasm.add, wasm.set(this.#row)]],
      ),
      wasm.get(this.#output),
    ];
    return { module: this.#locals.module(body), factCount: this.#facts.length };
  }

  #fact(): number {
    const local = this.#locals.i32();
    this.#facts.push(local);
    return local;
  }

  /** Address of the row's element in an array. */
  #at(start: number, widthBytes: 1 | 2 | 4 | 8): Code {
    const shift = SHIFTS[widthBytes];
    const offset = shift === 0 ? [] : [wasm.const(shift), wasm.shiftLeft];
    return [wasm.get(this.#row), offset, wasm.get(start), wasm.add];
  }

  #advance(sizeBytes: Code): Code {
    return [wasm.get(this.#output), sizeBytes, wasm.add, wasm.set(this.#output)];
  }

  #store(value: Code, how: 'store' | 'store8' | 'store16' | 'store64', sizeBytes: number): Code {
    return [wasm.get(this.#output), value, wasm[how](), this.#advance(wasm.const(sizeBytes))];
  }

  #fixed({ widthBytes }: ColumnModel): Code {
    const address = this.#at(this.#fact(), widthBytes);
    switch (widthBytes) {
      case 1:
        return this.#store([address, wasm.load8()], 'store8', 1);
      case 2:
        return this.#store([address, wasm.load16()], 'store16', 2);
      case 4:
        return this.#store([address, wasm.load()], 'store', 4);
      case 8:
        return this.#store([address, wasm.load64()], 'store64', 8);
    }
  }

  #variable({ widthBytes }: ColumnModel): Code {
    const [offsets, data] = [this.#fact(), this.#fact()];
    const inBytes = [wasm.const(SHIFTS[widthBytes]), wasm.shiftLeft];
    return [
      [this.#at(offsets, 4), wasm.load(4)],
      [this.#at(offsets, 4), wasm.load(), wasm.tee(this.#from)],
      [wasm.subtract, wasm.set(this.#count)],
      this.#varint(),
      [wasm.get(this.#from), inBytes, wasm.get(data), wasm.add, wasm.set(this.#from)],
      [wasm.get(this.#count), inBytes, wasm.set(this.#count)],
      this.#copy(),
    ];
  }

  /** Writes `count` as LEB128. */
  #varint(): Code {
    const rest = this.#end;
    const low = [wasm.get(rest), wasm.const(0x80), wasm.or];
    return [
      [wasm.get(this.#count), wasm.set(rest)],
      wasm.while(
        [wasm.get(rest), wasm.const(0x7f), wasm.isGreater],
        [this.#store(low, 'store8', 1), [wasm.get(rest), wasm.const(7), wasm.shiftRight, wasm.set(rest)]],
      ),
      this.#store(wasm.get(rest), 'store8', 1),
    ];
  }

  /** Copies `count` bytes at `from`. */
  #copy(): Code {
    return [
      [wasm.get(this.#output), wasm.get(this.#count), wasm.add, wasm.set(this.#end)],
      copyWords(this.#output, this.#from, this.#end),
    ];
  }
}
