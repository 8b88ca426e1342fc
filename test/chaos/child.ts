// A process under the chaos harness: started again and again, killed at any moment, its log kept. An end
// that nobody asked for is a finding.

import { closeSync, openSync, readFileSync } from 'node:fs';
import { cleanEnvironment } from '../support/recorder-process.ts';

export interface ChildOptions {
  name: string;
  logPath: string;
  /** Command line of the next start. */
  command: () => readonly string[];
  env: () => Record<string, string>;
  /** Each line of standard output. */
  line?: (text: string) => void;
  /** Told of an end that was not asked for. */
  unexpected: (text: string) => void;
}

export class Child {
  readonly #options: ChildOptions;
  #process: Bun.Subprocess<'pipe', 'pipe', number> | null = null;
  #output: Promise<void> = Promise.resolve();
  #isAsked = false;
  starts = 0;

  constructor(options: ChildOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  get alive(): boolean {
    return this.#process !== null && this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** Starts the process; its standard input stays open, so that it can see the end of its parent. */
  start(): void {
    const { command, env, logPath } = this.#options;
    const log = openSync(logPath, 'a');
    const child = Bun.spawn([...command()], {
      env: cleanEnvironment(env()),
      stdin: 'pipe',
      stdout: 'pipe',
      stderr: log,
    });
    closeSync(log);
    this.starts++;
    this.#isAsked = false;
    this.#process = child;
    this.#output = this.#read(child);
    void child.exited.then((code) => {
      if (this.#process !== child || this.#isAsked) return;
      this.#options.unexpected(
        `${this.name} ended by itself: ${child.signalCode ?? `exit code ${code}`}\n${this.logTail()}`,
      );
    });
  }

  /** Writes a line to its standard input; lost where the process is dead. */
  write(text: string): void {
    if (!this.alive) return;
    try {
      this.#process!.stdin.write(`${text}\n`);
      void this.#process!.stdin.flush();
    } catch {
      // It died meanwhile.
    }
  }

  /** Sends SIGKILL and waits for the end; false where it was dead already. */
  async kill(): Promise<boolean> {
    if (!this.alive) return false;
    this.#isAsked = true;
    this.#process!.kill('SIGKILL');
    await this.#process!.exited;
    await this.#output;
    return true;
  }

  /** Asks for an orderly end: SIGTERM, or the end of its input. Exit code; null when it had to be killed. */
  async end(by: 'SIGTERM' | 'input', timeoutMs: number): Promise<number | null> {
    const child = this.#process;
    if (child === null || !this.alive) return child?.exitCode ?? null;
    this.#isAsked = true;
    if (by === 'SIGTERM') child.kill('SIGTERM');
    else await child.stdin.end();
    return await this.exited(timeoutMs);
  }

  /** Waits for an end that the process comes to by itself; null when it had to be killed. */
  async exited(timeoutMs: number): Promise<number | null> {
    const child = this.#process!;
    this.#isAsked = true;
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    await child.exited;
    await this.#output;
    clearTimeout(timer);
    return child.exitCode;
  }

  logTail(lines = 15): string {
    const text = readFileSync(this.#options.logPath, 'utf8').trimEnd();
    return text.split('\n').slice(-lines).join('\n');
  }

  async #read(child: Bun.Subprocess<'pipe', 'pipe', number>): Promise<void> {
    const decoder = new TextDecoder();
    let rest = '';
    for await (const chunk of child.stdout) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop()!;
      for (const line of lines) this.#options.line?.(line);
    }
  }
}
