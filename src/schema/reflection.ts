// Reads a FlatBuffers reflection file (.bfbs, schema "reflection.fbs" of FlatBuffers) into plain objects.
//
// A .bfbs also comes out of WAL segment headers, years later and from other machines, so every offset is
// checked. Fields that are read, by table and vtable slot:
//
//   Schema  0 objects  1 enums  2 file_ident  4 root_table
//   Object  0 name  1 fields  2 is_struct  5 attributes  6 documentation
//   Field   0 name  1 type  2 id  4 default_integer  5 default_real  6 deprecated  7 required
//           9 attributes  10 documentation  11 optional
//   Type    0 base_type  1 element  2 index
//   Enum    0 name  1 values  2 is_union        EnumVal  0 name  1 value        KeyValue  0 key  1 value

import { ByteBuffer } from 'flatbuffers';
import { RecorderError } from '../errors.ts';

/** A schema that cannot be used; the message names the table, the field and what was expected. */
export class SchemaError extends RecorderError {
  constructor(message: string, hint?: string) {
    super('schema_invalid', message, hint === undefined ? {} : { hint });
    this.name = 'SchemaError';
  }
}

/** Base types in the numbering of reflection.fbs. */
export const baseTypes = [
  ...['none', 'utype', 'bool', 'int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64'],
  ...['float32', 'float64', 'string', 'vector', 'object', 'union', 'array'],
] as const;

export interface ReflectedEnum {
  name: string;
  isUnion: boolean;
  values: { name: string; value: bigint }[];
}

export interface ReflectedField {
  name: string;
  id: number;
  baseType: string;
  elementType: string;
  /** The enum behind an integer type, null for a plain integer. */
  enumType: ReflectedEnum | null;
  defaultInteger: bigint;
  defaultReal: number;
  deprecated: boolean;
  required: boolean;
  optional: boolean;
  attributes: Map<string, string>;
  documentation: string;
}

export interface ReflectedSchema {
  fileIdentifier: string;
  root: {
    name: string;
    isStruct: boolean;
    attributes: Map<string, string>;
    documentation: string;
    fields: ReflectedField[];
  } | null;
}

/** One for all: a schema has hundreds of texts, and it is read at each start. */
const decoder = new TextDecoder();

/** One FlatBuffers table at `position`; every read is checked against the buffer. */
class Table {
  readonly #buffer: ByteBuffer;
  readonly #position: number;
  readonly #vtable: number;
  readonly #vtableSize: number;

  constructor(buffer: ByteBuffer, position: number) {
    this.#buffer = buffer;
    this.#position = position;
    this.#check(position, 4);
    this.#vtable = position - buffer.readInt32(position);
    this.#check(this.#vtable, 4);
    this.#vtableSize = buffer.readUint16(this.#vtable);
    this.#check(this.#vtable, this.#vtableSize);
  }

  #check(position: number, sizeBytes: number): void {
    if (position < 0 || position + sizeBytes > this.#buffer.capacity()) {
      throw new SchemaError(`broken reflection file: offset ${position} lies outside its bytes`);
    }
  }

  /** Position of the field in `slot`, 0 where it is absent. */
  #field(slot: number, sizeBytes: number): number {
    const entry = 4 + slot * 2;
    if (entry + 2 > this.#vtableSize) return 0;
    const offset = this.#buffer.readUint16(this.#vtable + entry);
    if (offset === 0) return 0;
    this.#check(this.#position + offset, sizeBytes);
    return this.#position + offset;
  }

  integer(slot: number, sizeBytes: 1 | 2 | 4, absent = 0): number {
    const at = this.#field(slot, sizeBytes);
    if (at === 0) return absent;
    if (sizeBytes === 1) return this.#buffer.readUint8(at);
    return sizeBytes === 2 ? this.#buffer.readUint16(at) : this.#buffer.readInt32(at);
  }

  long(slot: number): bigint {
    const at = this.#field(slot, 8);
    return at === 0 ? 0n : this.#buffer.readInt64(at);
  }

  real(slot: number): number {
    const at = this.#field(slot, 8);
    return at === 0 ? 0 : this.#buffer.readFloat64(at);
  }

  #follow(at: number): number {
    const target = at + this.#buffer.readUint32(at);
    this.#check(target, 4);
    return target;
  }

  #text(at: number): string {
    const length = this.#buffer.readUint32(at);
    this.#check(at + 4, length);
    return decoder.decode(this.#buffer.bytes().subarray(at + 4, at + 4 + length));
  }

  string(slot: number): string {
    const at = this.#field(slot, 4);
    return at === 0 ? '' : this.#text(this.#follow(at));
  }

  table(slot: number): Table | null {
    const at = this.#field(slot, 4);
    return at === 0 ? null : new Table(this.#buffer, this.#follow(at));
  }

  #elements(slot: number): number[] {
    const at = this.#field(slot, 4);
    if (at === 0) return [];
    const vector = this.#follow(at);
    const count = this.#buffer.readUint32(vector);
    this.#check(vector + 4, count * 4);
    return Array.from({ length: count }, (_, i) => this.#follow(vector + 4 + i * 4));
  }

  tables(slot: number): Table[] {
    return this.#elements(slot).map((at) => new Table(this.#buffer, at));
  }

  strings(slot: number): string[] {
    return this.#elements(slot).map((at) => this.#text(at));
  }
}

function attributesOf(table: Table, slot: number): Map<string, string> {
  return new Map(table.tables(slot).map((pair) => [pair.string(0), pair.string(1)]));
}

function documentationOf(table: Table, slot: number): string {
  return table
    .strings(slot)
    .map((line) => line.trim())
    .join(' ');
}

function readField(field: Table, enums: ReflectedEnum[]): ReflectedField {
  const name = field.string(0);
  const type = field.table(1);
  if (type === null) throw new SchemaError(`broken reflection file: field ${name} has no type`);
  const enumIndex = type.integer(2, 4, -1);
  const baseType = baseTypes[type.integer(0, 1)] ?? 'unknown';
  const elementType = baseTypes[type.integer(1, 1)] ?? 'unknown';
  const isInteger = (text: string) => /^u?int/.test(text) || text === 'utype';
  const refersToEnum = isInteger(baseType) || (baseType === 'vector' && isInteger(elementType));
  return {
    name,
    baseType,
    elementType,
    id: field.integer(2, 2),
    enumType: refersToEnum ? (enums[enumIndex] ?? null) : null,
    defaultInteger: field.long(4),
    defaultReal: field.real(5),
    deprecated: field.integer(6, 1) !== 0,
    required: field.integer(7, 1) !== 0,
    optional: field.integer(11, 1) !== 0,
    attributes: attributesOf(field, 9),
    documentation: documentationOf(field, 10),
  };
}

/**
 * Reads the root table of a reflection file, its fields in the order of their ids.
 * @throws SchemaError where the bytes are not a reflection file
 */
export function readReflection(bfbs: Uint8Array): ReflectedSchema {
  if (bfbs.length < 16 || new TextDecoder('latin1').decode(bfbs.subarray(4, 8)) !== 'BFBS') {
    throw new SchemaError('not a FlatBuffers reflection file (.bfbs): identifier "BFBS" expected at byte 4');
  }
  const buffer = new ByteBuffer(bfbs);
  const schema = new Table(buffer, buffer.readUint32(0));
  const root = schema.table(4);
  if (root === null) return { fileIdentifier: schema.string(2), root: null };
  const enums = schema.tables(1).map((table) => ({
    name: table.string(0),
    isUnion: table.integer(2, 1) !== 0,
    values: table.tables(1).map((value) => ({ name: value.string(0), value: value.long(1) })),
  }));
  const fields = root.tables(1).map((field) => readField(field, enums));
  fields.sort((a, b) => a.id - b.id);
  return {
    fileIdentifier: schema.string(2),
    root: {
      name: root.string(0),
      isStruct: root.integer(2, 1) !== 0,
      attributes: attributesOf(root, 5),
      documentation: documentationOf(root, 6),
      fields,
    },
  };
}
