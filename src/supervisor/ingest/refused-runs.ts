// The last refused frames of each stream, by number: what a quarantine that is full, or whose disk fails,
// does not keep of them. Without it a session would seem to have a gap there after a restart.
//
// <walDir>/refused.json   {"runs": [RefusedRun, …]}; replaced atomically and synced where something is not
// kept

import { errorCode, type FileSystem, replaceFile } from '../../io/file-system.ts';

export const REFUSED_RUNS_FILE = 'refused.json';

/** Frames `first` to `last` of a stream, all refused. */
export interface RefusedRun {
  source: string;
  session: string;
  first: number;
  last: number;
}

export class RefusedRuns {
  readonly #fileSystem: FileSystem;
  readonly #directory: string;
  readonly #maxStreams: number;
  /** In the order of their last frame. */
  readonly #runs = new Map<string, RefusedRun>();
  #isDue = false;

  constructor(fileSystem: FileSystem, directory: string, maxStreams: number) {
    this.#fileSystem = fileSystem;
    this.#directory = directory;
    this.#maxStreams = maxStreams;
    for (const run of readRefusedRuns(directory, fileSystem)) this.#put(run);
  }

  /** Takes the number of a refused frame, kept or not. */
  add(source: string, session: string, seq: number): void {
    const run = this.#runs.get(keyOf(source, session));
    if (run !== undefined && seq >= run.first && seq <= run.last) return;
    const first = run !== undefined && seq === run.last + 1 ? run.first : seq;
    this.#put({ source, session, first, last: seq });
  }

  /** Says that a frame was not kept: the next `write` writes. */
  notKept(): void {
    this.#isDue = true;
  }

  /** Makes the runs durable where frames were not kept. Throws the errors of the file system. */
  write(): void {
    if (!this.#isDue) return;
    const content = `${JSON.stringify({ runs: [...this.#runs.values()] })}\n`;
    replaceFile(this.#fileSystem, this.#directory, REFUSED_RUNS_FILE, new TextEncoder().encode(content));
    this.#isDue = false;
  }

  #put(run: RefusedRun): void {
    const key = keyOf(run.source, run.session);
    this.#runs.delete(key);
    this.#runs.set(key, run);
    if (this.#runs.size > this.#maxStreams) this.#runs.delete(this.#runs.keys().next().value!);
  }
}

/** The runs of a directory; none where the file is absent. */
export function readRefusedRuns(directory: string, fileSystem: FileSystem): RefusedRun[] {
  try {
    const text = new TextDecoder().decode(fileSystem.readFile(`${directory}/${REFUSED_RUNS_FILE}`));
    return (JSON.parse(text) as { runs: RefusedRun[] }).runs;
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || error instanceof SyntaxError) return [];
    throw error;
  }
}

const keyOf = (source: string, session: string) => JSON.stringify([source, session]);
