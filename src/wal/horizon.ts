// The durable horizon: LSN of the first row that is not yet durable, shared with other threads and processes.
//
// The file `durable` in the WAL directory is mapped by its writer and its readers. It is not synced: it
// survives a killed process, not a power loss, and after one it may be older than the truth but never ahead
// of it, because it is stored to only after a sync has ended.
//
// Layout, 64 bytes, little-endian
//   offset size field
//        0    8 magic "RECDUR01"
//        8    8 walId
//       16    8 durableLsn, stored and loaded as one 64-bit word
//       24    8 syncedLsn: rows below it have been synced; behind durableLsn where the sync policy lets it be
//       32   32 zero

import type { FileSystem } from '../io/file-system.ts';
import { errorCode, replaceFile } from '../io/file-system.ts';

export const HORIZON_FILE = 'durable';
const HORIZON_SIZE_BYTES = 64;
const MAGIC = 0x3130_5255_4443_4552n; // "RECDUR01"
const MAGIC_WORD = 0;
const WAL_ID_WORD = 1;
const DURABLE_WORD = 2;
const SYNCED_WORD = 3;

export interface Horizon {
  walId: bigint;
  /** LSN of the first row that is not yet durable; read from memory at each call. */
  durableLsn(): bigint;
  /** LSN of the first row that has not been synced; for the next start. */
  syncedLsn(): bigint;
}

export interface WritableHorizon extends Horizon {
  publish(durableLsn: bigint, syncedLsn: bigint): void;
}

function mapWords(fileSystem: FileSystem, dir: string): BigUint64Array | null {
  const path = `${dir}/${HORIZON_FILE}`;
  try {
    // A shorter file must not be mapped: a load past its end would kill the process.
    if (fileSystem.readFile(path).length !== HORIZON_SIZE_BYTES) return null;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
  const bytes = fileSystem.map(path, HORIZON_SIZE_BYTES);
  const words = new BigUint64Array(bytes.buffer, bytes.byteOffset, HORIZON_SIZE_BYTES / 8);
  return words[MAGIC_WORD] === MAGIC ? words : null;
}

function over(words: BigUint64Array): WritableHorizon {
  return {
    walId: words[WAL_ID_WORD]!,
    durableLsn: () => Atomics.load(words, DURABLE_WORD),
    syncedLsn: () => Atomics.load(words, SYNCED_WORD),
    publish: (durableLsn, syncedLsn) => {
      Atomics.store(words, SYNCED_WORD, syncedLsn);
      Atomics.store(words, DURABLE_WORD, durableLsn);
    },
  };
}

/** Opens the horizon of a WAL for reading; null when there is none, or its file is damaged. */
export function openHorizon(fileSystem: FileSystem, dir: string): Horizon | null {
  const words = mapWords(fileSystem, dir);
  return words && over(words);
}

/**
 * Opens the horizon as the WAL's owner. The file is kept when it is this WAL's, so that processes that have
 * mapped it go on seeing it; otherwise it is made anew with `durableLsn`.
 */
export function createHorizon(
  fileSystem: FileSystem,
  dir: string,
  walId: bigint,
  durableLsn: bigint,
): WritableHorizon {
  const existing = mapWords(fileSystem, dir);
  if (existing !== null && existing[WAL_ID_WORD] === walId) return over(existing);
  const words = new BigUint64Array(HORIZON_SIZE_BYTES / 8);
  words[MAGIC_WORD] = MAGIC;
  words[WAL_ID_WORD] = walId;
  words[DURABLE_WORD] = durableLsn;
  replaceFile(fileSystem, dir, HORIZON_FILE, new Uint8Array(words.buffer));
  return over(mapWords(fileSystem, dir)!);
}
