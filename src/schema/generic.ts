// The generic path: verify, decode with flatc's own class into a row object, write the row into the batch. It
// is the oracle that the extractors are tested against, their baseline in the benchmark, and what runs with
// HFT_BATCHER_SCHEMA_EXTRACT=0.

import { ByteBuffer, Encoding } from 'flatbuffers';
import { writeFixedCell, writeVarCell } from '../columns/cells.ts';
import type { Extract } from './extractor.ts';
import { Malformed } from './malformed.ts';
import type { ColumnModel, ScalarType, TopicModel } from './model.ts';
import { SchemaError } from './reflection.ts';
import { fieldPosition, type TablePosition, verifyFrame } from './verifier.ts';

/** A class that flatc made of a topic's table. */
export type GeneratedClass = abstract new () => object;

type Scalar = number | bigint | boolean;

/** Decoded cell: scalar, bytes of a string, elements of a vector; null is absent. */
export type GenericRow = Record<string, Scalar | Uint8Array | Scalar[] | null>;

type Accessor = (...args: unknown[]) => unknown;

interface ColumnAccess {
  column: ColumnModel;
  read: Accessor;
  /** Number of elements, for arrays. */
  length: Accessor | null;
}

/** flatc's name of an accessor: snake_case becomes camelCase. */
function camelCase(name: string): string {
  return name.replace(/_+(\w)/g, (_, letter: string) => letter.toUpperCase());
}

function accessOf(generatedClass: GeneratedClass, column: ColumnModel): ColumnAccess {
  const prototype = generatedClass.prototype as Record<string, Accessor | undefined>;
  const name = camelCase(column.name);
  // flatc appends an underscore to names that TypeScript reserves.
  const read = prototype[name] ?? prototype[`${name}_`];
  const length = column.kind === 'array' ? prototype[`${name}Length`] : undefined;
  if (read === undefined || (column.kind === 'array' && length === undefined)) {
    throw new SchemaError(
      `generated class ${generatedClass.name} has no accessor ${name}`,
      'bun run generate',
    );
  }
  return { column, read, length: length ?? null };
}

/** Makes the decoder of a topic: a verified frame to a row object. */
export function createRowDecoder(
  model: TopicModel,
  generatedClass: GeneratedClass,
): (frame: Uint8Array) => GenericRow {
  // From the model, not from the class: a minified build renames classes.
  const rootName = `getRootAs${model.typeName.slice(model.typeName.lastIndexOf('.') + 1)}`;
  const rootOf = (generatedClass as unknown as Record<string, Accessor | undefined>)[rootName];
  if (rootOf === undefined) throw new SchemaError(`generated class of ${model.typeName} has no ${rootName}`);
  const access = model.columns.map((column) => accessOf(generatedClass, column));
  return (frame) => {
    const root = rootOf.call(generatedClass, new ByteBuffer(frame));
    const row: GenericRow = {};
    for (const { column, read, length } of access) {
      if (length === null) {
        row[column.name] = read.call(root, Encoding.UTF8_BYTES) as Scalar | Uint8Array | null;
      } else {
        const count = length.call(root) as number;
        row[column.name] = Array.from({ length: count }, (_, i) => read.call(root, i) as Scalar);
      }
    }
    return row;
  };
}

const scratch = new DataView(new ArrayBuffer(8));

/** Raw bits of a decoded value. */
function bitsOf(scalar: ScalarType, widthBytes: number, value: Scalar): bigint {
  if (scalar === 'float32' || scalar === 'float64') {
    scratch.setBigUint64(0, 0n, true);
    if (scalar === 'float32') scratch.setFloat32(0, value as number, true);
    else scratch.setFloat64(0, value as number, true);
    return scratch.getBigUint64(0, true);
  }
  return BigInt.asUintN(widthBytes * 8, BigInt(value));
}

/** Bits of a float in the frame: a NaN loses its payload on its way through a number, so it is read again. */
function nanBits(frame: DataView, at: number, widthBytes: number): bigint {
  return widthBytes === 4 ? BigInt(frame.getUint32(at, true)) : frame.getBigUint64(at, true);
}

/**
 * Makes the generic path of a topic, with the contract of an extractor.
 * @param generatedClass flatc's class of the topic's table
 */
export function createGeneric(model: TopicModel, generatedClass: GeneratedClass): Extract {
  const decode = createRowDecoder(model, generatedClass);
  const position: TablePosition = { table: 0, vtable: 0, vtableSizeBytes: 0 };
  return (view, bytes, start, end, batch) => {
    const frame = new DataView(view.buffer, view.byteOffset + start, end - start);
    const code = verifyFrame(model, frame, position);
    if (code !== Malformed.ok) return code;
    const row = decode(bytes.subarray(start, end));
    let varBytes = 0;
    for (const column of model.columns) {
      const at = fieldPosition(frame, position, column.slot);
      const value = row[column.name] ?? null;
      if (column.kind === 'fixed')
        writeFixedCell(batch, column, fixedBits(column, value as Scalar | null, frame, at));
      else {
        const data =
          value === null || at === 0 ? null : varBytesOf(column, value as Uint8Array | Scalar[], frame, at);
        writeVarCell(batch, column, data);
        varBytes += data?.length ?? 0;
      }
    }
    batch.pendingVarBytes = varBytes;
    return Malformed.ok;
  };
}

function fixedBits(column: ColumnModel, value: Scalar | null, frame: DataView, at: number): bigint | null {
  if (value === null) return null;
  if (at !== 0 && Number.isNaN(value)) return nanBits(frame, at, column.widthBytes);
  return bitsOf(column.scalar, column.widthBytes, value);
}

function varBytesOf(
  column: ColumnModel,
  value: Uint8Array | Scalar[],
  frame: DataView,
  at: number,
): Uint8Array {
  if (value instanceof Uint8Array) return value;
  const { widthBytes } = column;
  const data = new DataView(new ArrayBuffer(value.length * widthBytes));
  const elements = at + frame.getUint32(at, true) + 4;
  value.forEach((element, i) => {
    const bits = Number.isNaN(element)
      ? nanBits(frame, elements + i * widthBytes, widthBytes)
      : bitsOf(column.scalar, widthBytes, element);
    for (let byte = 0; byte < widthBytes; byte++) {
      data.setUint8(i * widthBytes + byte, Number((bits >> BigInt(byte * 8)) & 0xffn));
    }
  });
  return new Uint8Array(data.buffer);
}
