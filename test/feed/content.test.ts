import { expect, test } from 'bun:test';
import { gzipSync } from 'node:zlib';
import { csvRows } from '../../src/feed/content/csv-rows.ts';
import { lineBlocks } from '../../src/feed/content/line-blocks.ts';
import { listTextFiles, type TextFile } from '../../src/feed/content/text-file.ts';
import type { FeedError } from '../../src/feed/feed-error.ts';
import { seededRandom } from '../support/random.ts';
import { zipOf } from '../support/zip-fixture.ts';
import { type FeedFixture, feedFixture, rejectionOf } from './feed-fixture.ts';

/** The text as far as it can be read, and the error that ended it. */
async function readText(file: TextFile): Promise<{ text: string; error: FeedError | null }> {
  const open = await file.open();
  let text = '';
  try {
    for await (const block of lineBlocks(open, file.label)) text += block.text;
    return { text, error: null };
  } catch (error) {
    return { text, error: error as FeedError };
  } finally {
    await open.close();
  }
}

async function onlyFile(fixture: FeedFixture, name: string, data: string | Uint8Array): Promise<TextFile> {
  const files = await listTextFiles([fixture.write(name, data)], fixture.report);
  expect(files).toHaveLength(1);
  return files[0]!;
}

const lines = Array.from({ length: 20_000 }, (_, i) => `line ${i}, ${(i * 7919) % 10_007}\n`).join('');

test('the same text comes from a plain file, gzip, gzip of several members, and zip', async () => {
  using fixture = feedFixture();
  const half = Math.floor(lines.length / 3);
  const members = [gzipSync(lines.slice(0, half)), gzipSync(''), gzipSync(lines.slice(half))];
  const forms: [string, string | Uint8Array][] = [
    ['plain.csv', lines],
    ['one.csv.gz', gzipSync(lines)],
    ['several.gz', Buffer.concat(members)],
    ['padded.gz', Buffer.concat([gzipSync(lines), Buffer.alloc(1000)])],
    ['deflate.zip', zipOf([{ name: 'a.csv', data: lines }])],
    ['stored.zip', zipOf([{ name: 'a.csv', data: lines, method: 'stored' }])],
    ['streamed.zip', zipOf([{ name: 'a.csv', data: lines, sizesFollow: true }])],
    ['wrong-name.csv', gzipSync(lines)],
  ];
  for (const [name, data] of forms) {
    expect(await readText(await onlyFile(fixture, name, data))).toEqual({ text: lines, error: null });
  }
});

test('a gzip header with all optional fields is read', async () => {
  using fixture = feedFixture();
  const plain = gzipSync('a\nb\n');
  const header = Buffer.from([0x1f, 0x8b, 8, 2 | 4 | 8 | 16, 0, 0, 0, 0, 0, 3]);
  const fields = Buffer.concat([
    Buffer.from([3, 0, 1, 2, 3]),
    Buffer.from('name\0comment\0'),
    Buffer.from([9, 9]),
  ]);
  const file = await onlyFile(fixture, 'full.gz', Buffer.concat([header, fields, plain.subarray(10)]));
  expect(await readText(file)).toEqual({ text: 'a\nb\n', error: null });
});

test('of a gzip file cut anywhere, whole lines from the front are read and the cut is an error', async () => {
  using fixture = feedFixture();
  const text = Array.from({ length: 40 }, (_, i) => `row ${i} ${(i * 31) % 17}\n`).join('');
  const packed = gzipSync(text);
  for (let cut = 1; cut < packed.length; cut++) {
    const files = await listTextFiles([fixture.write('cut.gz', packed.subarray(0, cut))], fixture.report);
    const { text: read, error } = await readText(files[0]!);
    // One byte cannot be told from a text.
    if (cut === 1) continue;
    expect(error?.code).toBe('feed_truncated');
    expect(text.startsWith(read)).toBe(true);
    expect(read === '' || read.endsWith('\n')).toBe(true);
  }
});

test('of a long gzip file cut in half, about half is read', async () => {
  using fixture = feedFixture();
  const packed = gzipSync(lines);
  const { text, error } = await readText(
    await onlyFile(fixture, 'half.gz', packed.subarray(0, packed.length / 2)),
  );
  expect(error?.message).toContain('ends in the middle of its compressed data');
  expect(text.length).toBeGreaterThan(lines.length / 4);
  expect(lines.startsWith(text)).toBe(true);
});

test('what is no gzip after a gzip member is an error, and the member is read', async () => {
  using fixture = feedFixture();
  const file = await onlyFile(
    fixture,
    'tail.gz',
    Buffer.concat([gzipSync('a\nb\n'), Buffer.from('garbage here')]),
  );
  const { text, error } = await readText(file);
  expect(text).toBe('a\nb\n');
  expect(error?.code).toBe('feed_corrupt');
});

test('a wrong checksum is an error, in gzip and in zip', async () => {
  using fixture = feedFixture();
  const gz = gzipSync('a\nb\n');
  gz[gz.length - 8]! ^= 1;
  const zip = zipOf([{ name: 'a', data: 'a\nb\n' }]);
  zip[zip.length - 22 - 47 + 16]! ^= 1;
  for (const [name, bytes] of [
    ['a.gz', gz],
    ['a.zip', zip],
  ] as const) {
    const { error } = await readText(await onlyFile(fixture, name, bytes));
    expect(error?.code).toBe('feed_corrupt');
  }
});

test('damaged bytes anywhere in a gzip file are an error or change nothing, and never hang', async () => {
  using fixture = feedFixture();
  const random = seededRandom('gzip-damage');
  const packed = gzipSync(lines.slice(0, 50_000));
  for (let i = 0; i < 60; i++) {
    const bytes = Buffer.from(packed);
    const at = random.int(10, bytes.length - 1);
    bytes[at]! ^= 1 << random.int(0, 7);
    const { text, error } = await readText(await onlyFile(fixture, 'bad.gz', bytes));
    if (error === null) expect(text).toBe(lines.slice(0, 50_000));
    else expect(['feed_corrupt', 'feed_truncated']).toContain(error.code);
  }
});

for (const sizesFollow of [false, true]) {
  test(`a zip file without its end gives what is before it, sizesFollow ${sizesFollow}`, async () => {
    using fixture = feedFixture();
    const bytes = zipOf([
      { name: 'a.csv', data: 'a1\na2\n', sizesFollow },
      { name: 'b.csv', data: lines, sizesFollow },
    ]);
    const path = fixture.write('cut.zip', bytes.subarray(0, Math.floor(bytes.length * 0.7)));
    const files = await listTextFiles([path], fixture.report);
    expect(files.map(({ name }) => name)).toEqual(['a.csv', 'b.csv']);
    expect(fixture.report.problems[0]).toContain('no readable directory at its end');
    expect(await readText(files[0]!)).toEqual({ text: 'a1\na2\n', error: null });
    const { text, error } = await readText(files[1]!);
    expect(error?.code).toBe('feed_truncated');
    expect(text.length).toBeGreaterThan(1000);
    expect(lines.startsWith(text)).toBe(true);
  });
}

test('encrypted entries and unknown containers are refused by name', async () => {
  using fixture = feedFixture();
  const encrypted = await onlyFile(fixture, 'secret.zip', zipOf([{ name: 'a', data: 'x', encrypted: true }]));
  expect((await readText(encrypted)).error?.message).toContain('is encrypted');
  const tar = Buffer.alloc(1024);
  tar.write('ustar', 257);
  const containers: [string, Uint8Array, string][] = [
    ['a.zst', Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0]), 'zstd data'],
    ['a.7z', Buffer.from([0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c]), 'a 7z archive'],
    ['a.bin', Buffer.from([1, 2, 0, 4]), 'binary data'],
    ['a.tar', tar, 'a tar archive'],
    ['utf16.csv', Buffer.from('\ufeff1,2', 'utf16le'), 'UTF-16 text'],
  ];
  for (const [name, bytes, kind] of containers) {
    const error = await rejectionOf(listTextFiles([fixture.write(name, bytes)], fixture.report));
    expect(error.message).toContain(kind);
  }
  const tarGz = await onlyFile(fixture, 'a.tar.gz', gzipSync(tar));
  expect((await readText(tarGz)).error?.message).toContain('a tar archive');
});

test('a directory stands for the files below it by name, hidden ones left out', async () => {
  using fixture = feedFixture();
  fixture.write('data/b.csv', 'b');
  fixture.write('data/a/z.csv', 'z');
  fixture.write('data/.hidden', 'h');
  const files = await listTextFiles([`${fixture.directory}/data`], fixture.report);
  expect(files.map(({ name, found }) => `${name} ${found}`)).toEqual(['z.csv true', 'b.csv true']);
});

test('a path that is not there is said', async () => {
  using fixture = feedFixture();
  const error = await rejectionOf(listTextFiles([`${fixture.directory}/nothing.csv`], fixture.report));
  expect(error.message).toContain('nothing.csv: cannot be read');
});

test('a pipe is refused, not waited for', async () => {
  using fixture = feedFixture();
  const path = `${fixture.directory}/pipe`;
  Bun.spawnSync(['mkfifo', path]);
  expect((await rejectionOf(listTextFiles([path], fixture.report))).message).toContain(
    'is not a regular file',
  );
});

test('lines keep their numbers whatever the line ends, blank lines, and chunks', async () => {
  const random = seededRandom('line-numbers');
  const expected: { fields: string[]; line: number }[] = [];
  let text = '\ufeff';
  for (let line = 1; line <= 3000; line++) {
    const end = random.pick(['\n', '\r\n']);
    if (random.int(0, 9) === 0 && line < 3000) {
      text += end;
      continue;
    }
    const fields = [String(line), 'a"b', String(random.u32())];
    expected.push({ fields, line });
    text += fields.join(',') + (line === 3000 ? '' : end);
  }
  const bytes = Buffer.from(text);
  async function* chunks() {
    for (let at = 0; at < bytes.length; ) {
      const size = random.int(1, 9000);
      yield bytes.subarray(at, at + size);
      at += size;
    }
  }
  const rows: { fields: string[]; line: number }[] = [];
  const open = { chunks: chunks(), readBytes: () => 0, close: async () => {} };
  for await (const block of lineBlocks(open, 'x')) rows.push(...csvRows(block));
  expect(rows).toEqual(expected);
});
