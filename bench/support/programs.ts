// Programs that a benchmark runs beside itself: each says `ready`, most wait for a line on standard input.

import { join } from 'node:path';
import type { SenderOptions, SenderResult } from '../programs/sender.ts';

const PROGRAMS = join(import.meta.dir, '../programs');

/** A running program of bench/programs. */
export interface Program {
  pid: number;
  /** Lets it begin. */
  go(): void;
  /** Its next line; throws where it has ended. */
  line(): Promise<string>;
  /** Kills it if it has not ended. */
  end(): Promise<void>;
}

/** Starts a program and waits until it is ready. */
export async function startProgram(name: string, ...args: string[]): Promise<Program> {
  return await startCommand([process.execPath, join(PROGRAMS, name), ...args]);
}

/** The same for any command line. */
export async function startCommand(command: readonly string[]): Promise<Program> {
  const child = Bun.spawn([...command], { stdin: 'pipe', stdout: 'pipe', stderr: 'inherit' });
  const lines = linesOf(child.stdout);
  const line = async () => {
    const { value, done } = await lines.next();
    if (done === true)
      throw new Error(`${command.slice(0, 2).join(' ')} ended with code ${await child.exited}`);
    return value;
  };
  const first = await line();
  if (first !== 'ready') throw new Error(`${command[1]} said "${first}"`);
  return {
    pid: child.pid,
    go: () => {
      child.stdin.write('go\n');
      child.stdin.flush();
    },
    line,
    end: async () => {
      child.kill('SIGKILL');
      await child.exited;
    },
  };
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop()!;
    yield* lines;
  }
}

/**
 * Lets senders begin together and waits for all: seconds from the first start to the last end, and when the
 * first began (monotonic clock, ns).
 */
export async function sendTogether(
  options: readonly SenderOptions[],
): Promise<{ seconds: number; startNs: number }> {
  const senders = await Promise.all(options.map((each) => startProgram('sender.ts', JSON.stringify(each))));
  for (const sender of senders) sender.go();
  const results = await Promise.all(
    senders.map(async (sender) => JSON.parse(await sender.line()) as SenderResult),
  );
  await Promise.all(senders.map((sender) => sender.end()));
  const startNs = Math.min(...results.map((result) => result.startNs));
  const endNs = Math.max(...results.map((result) => result.endNs));
  return { seconds: (endNs - startNs) / 1e9, startNs };
}
