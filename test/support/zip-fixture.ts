import { crc32, deflateRawSync } from 'node:zlib';

export interface ZipFixtureEntry {
  name: string;
  data: Uint8Array | string;
  /** Default: deflate. */
  method?: 'stored' | 'deflate';
  /** Sizes and checksum behind the data, as streaming writers put them. */
  sizesFollow?: boolean;
  encrypted?: boolean;
}

function record(
  size: number,
  fields: readonly (readonly [offset: number, bytes: 2 | 4, value: number])[],
): Buffer {
  const bytes = Buffer.alloc(size);
  for (const [offset, width, value] of fields) bytes.writeUIntLE(value, offset, width);
  return bytes;
}

/** Bytes of a zip archive, written straight from the format's description (APPNOTE 6.3). */
export function zipOf(entries: readonly ZipFixtureEntry[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const entry of entries) {
    const data = Buffer.from(entry.data as string);
    const packed = entry.method === 'stored' ? data : deflateRawSync(data);
    const name = Buffer.from(entry.name);
    const method = entry.method === 'stored' ? 0 : 8;
    const flags = (entry.sizesFollow ? 8 : 0) | (entry.encrypted ? 1 : 0);
    const crc = crc32(data);
    const known = entry.sizesFollow ? [0, 0, 0] : [crc, packed.length, data.length];
    const local = record(30, [
      [0, 4, 0x04034b50],
      [4, 2, 20],
      [6, 2, flags],
      [8, 2, method],
      [14, 4, known[0]!],
      [18, 4, known[1]!],
      [22, 4, known[2]!],
      [26, 2, name.length],
    ]);
    const descriptor = record(16, [
      [0, 4, 0x08074b50],
      [4, 4, crc],
      [8, 4, packed.length],
      [12, 4, data.length],
    ]);
    const central = record(46, [
      [0, 4, 0x02014b50],
      [4, 2, 20],
      [6, 2, 20],
      [8, 2, flags],
      [10, 2, method],
      [16, 4, crc],
      [20, 4, packed.length],
      [24, 4, data.length],
      [28, 2, name.length],
      [42, 4, offset],
    ]);
    directory.push(central, name);
    const written = [local, name, packed, ...(entry.sizesFollow ? [descriptor] : [])];
    parts.push(...written);
    offset += written.reduce((sum, part) => sum + part.length, 0);
  }
  const directorySize = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record(22, [
    [0, 4, 0x06054b50],
    [8, 2, entries.length],
    [10, 2, entries.length],
    [12, 4, directorySize],
    [16, 4, offset],
  ]);
  return Buffer.concat([...parts, ...directory, end]);
}
