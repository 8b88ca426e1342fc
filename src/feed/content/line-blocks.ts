// Bytes to blocks of whole lines.

import { FeedError } from '../feed-error.ts';
import type { OpenText, TextFile } from './text-file.ts';

const BLOCK_SIZE_BYTES = 128 * 1024;
/** A line of a depth snapshot takes 60 KB. */
const LINE_LIMIT_BYTES = 64 * 1024 * 1024;
const LINE_FEED = 10;

/** Whole lines in one text. */
export interface LineBlock {
  text: string;
  /** Number of the first line in the file, from 1. */
  firstLine: number;
}

/**
 * Cuts a text into blocks of whole lines; the last line needs no line end. Of a damaged text the whole
 * lines before the damage are yielded, then its error is thrown.
 * @throws FeedError for truncated or damaged data, and for a line of more than 64 MiB
 */
export async function* lineBlocks(text: OpenText, label: string): AsyncGenerator<LineBlock> {
  const decoder = new TextDecoder();
  let parts: Uint8Array[] = [];
  let sizeBytes = 0;
  let firstLine = 1;
  let failure: unknown = null;
  const take = (whole: boolean): LineBlock | null => {
    const bytes = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    const end = whole ? bytes.length : bytes.lastIndexOf(LINE_FEED) + 1;
    if (end === 0) return null;
    const block = { text: decoder.decode(bytes.subarray(0, end)), firstLine };
    parts = end < bytes.length ? [bytes.subarray(end)] : [];
    sizeBytes = bytes.length - end;
    firstLine += countLines(bytes, end);
    return block;
  };
  try {
    for await (const chunk of text.chunks) {
      parts.push(chunk);
      sizeBytes += chunk.length;
      if (sizeBytes < BLOCK_SIZE_BYTES) continue;
      const block = take(false);
      if (block !== null) yield block;
      else if (sizeBytes > LINE_LIMIT_BYTES)
        throw new FeedError('feed_wrong_format', `${label}, line ${firstLine}: longer than 64 MiB`);
    }
  } catch (error) {
    failure = error;
  }
  const rest = sizeBytes === 0 ? null : take(failure === null);
  if (rest !== null) yield rest;
  if (failure !== null) throw failure;
}

function countLines(bytes: Uint8Array, end: number): number {
  let count = 0;
  for (let i = bytes.indexOf(LINE_FEED); i >= 0 && i < end; i = bytes.indexOf(LINE_FEED, i + 1)) count++;
  return count;
}

const SNIFFED_LINES = 20;

/**
 * The first lines of a text that are not blank, at most 20, without their line ends; none for an empty
 * text.
 */
export async function firstLines(file: TextFile): Promise<string[]> {
  const text = await file.open();
  try {
    for await (const block of lineBlocks(text, file.label)) {
      const lines = block.text.replace(/^\ufeff/, '').split(/\r?\n/, SNIFFED_LINES + 1);
      const filled = lines.filter((line) => line.trim() !== '').slice(0, SNIFFED_LINES);
      if (filled.length > 0) return filled;
    }
    return [];
  } finally {
    await text.close();
  }
}
