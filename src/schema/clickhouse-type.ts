// Which ClickHouse types a wire type may be stored as: only those whose binary form is the wire form, bit for
// bit.

import type { ScalarType } from './model.ts';

const defaultTypes: Record<ScalarType, string> = {
  bool: 'UInt8',
  int8: 'Int8',
  uint8: 'UInt8',
  int16: 'Int16',
  uint16: 'UInt16',
  int32: 'Int32',
  uint32: 'UInt32',
  int64: 'Int64',
  uint64: 'UInt64',
  float32: 'Float32',
  float64: 'Float64',
};

/** The ClickHouse type that follows from a wire type alone. */
export function defaultClickhouseType(scalar: ScalarType): string {
  return defaultTypes[scalar];
}

/** Bytes of a scalar on the wire, in the WAL and in ClickHouse. */
export function scalarWidthBytes(scalar: ScalarType): 1 | 2 | 4 | 8 {
  switch (scalar) {
    case 'bool':
    case 'int8':
    case 'uint8':
      return 1;
    case 'int16':
    case 'uint16':
      return 2;
    case 'int32':
    case 'uint32':
    case 'float32':
      return 4;
    case 'int64':
    case 'uint64':
    case 'float64':
      return 8;
  }
}

/** Wire types whose bits a scalar ClickHouse type takes as they are; empty for an unknown type. */
function wireTypesOf(type: string): ScalarType[] {
  const plain = (Object.keys(defaultTypes) as ScalarType[]).filter((scalar) => defaultTypes[scalar] === type);
  if (plain.length > 0) return plain;
  if (type === 'Bool') return ['bool'];
  if (type === 'Date') return ['uint16'];
  if (type === 'Date32') return ['int32'];
  if (type === 'IPv4' || /^DateTime(\('[\w/+-]+'\))?$/.test(type)) return ['uint32'];
  if (/^DateTime64\([0-9](, '[\w/+-]+')?\)$/.test(type)) return ['int64'];
  const decimal = /^Decimal\((\d+), (\d+)\)$/.exec(type);
  if (decimal === null) return [];
  const [precision, scale] = [Number(decimal[1]), Number(decimal[2])];
  if (precision < 1 || precision > 18 || scale > precision) return [];
  return [precision <= 9 ? 'int32' : 'int64'];
}

/** Writes a type as ClickHouse itself does: one space after a comma, none elsewhere. */
export function canonicalType(type: string): string {
  return type.replace(/\s+/g, '').replace(/,/g, ', ');
}

/**
 * Why a column of this wire type cannot be stored as `type` (canonical form); null where it can.
 * `kind` and `scalar` are the column's, as in ColumnModel.
 */
export function typeProblem(
  type: string,
  kind: 'fixed' | 'string' | 'array',
  scalar: ScalarType,
): string | null {
  if (type.includes('Nullable('))
    return 'write "= null" (scalars) or "nullable" (strings) instead of Nullable';
  if (/Enum(8|16)?\(/.test(type)) {
    return 'a value outside an Enum would break every SELECT of the column: use the integer type';
  }
  if (kind === 'string') {
    return type === 'String' || type === 'LowCardinality(String)'
      ? null
      : 'a string is stored as String or LowCardinality(String)';
  }
  const element = kind === 'array' ? /^Array\((.*)\)$/.exec(type)?.[1] : type;
  if (element === undefined) return 'a vector is stored as Array(…)';
  const wireTypes = wireTypesOf(element);
  if (wireTypes.length === 0) return `${element} is not a type that a ${scalar} can be stored as`;
  if (wireTypes.includes(scalar)) return null;
  return `${element} has the wire type ${wireTypes.join(' or ')}, the field is ${scalar}`;
}
