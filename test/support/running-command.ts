// A command of the program that goes on until it is stopped.

import { type CommandResult, cleanEnvironment, recorderCommand, until } from './recorder-process.ts';

/** `log` is what it has written to standard error. */
export interface RunningCommand {
  readonly pid: number;
  log(): string;
  /** Waits until the log has a message that matches. */
  logged(pattern: RegExp): Promise<void>;
  alive(): boolean;
  /** How it ended; never rejects. `json` is its last line where that is JSON. */
  readonly ended: Promise<CommandResult>;
  /** Sends the signal and waits for the end. */
  end(signal: NodeJS.Signals): Promise<CommandResult>;
}

/** Starts a command of the program. */
export function startCommand(args: readonly string[], env: Record<string, string> = {}): RunningCommand {
  const child = Bun.spawn([...recorderCommand, ...args], {
    env: cleanEnvironment(env),
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  });
  let log = '';
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stderr) log += decoder.decode(chunk, { stream: true });
  })();
  const ended = (async () => {
    const [output, code] = await Promise.all([new Response(child.stdout).text(), child.exited, reading]);
    const last = output.trimEnd().split('\n').at(-1) ?? '';
    const json = (last.startsWith('{') ? JSON.parse(last) : {}) as Record<string, unknown>;
    return { code, output, errors: log, json };
  })();
  const alive = () => child.exitCode === null && child.signalCode === null;
  return {
    pid: child.pid,
    log: () => log,
    logged: async (pattern) => {
      await until(
        () => pattern.test(log) || !alive(),
        () => `${pattern} in:\n${log}`,
      );
      if (!pattern.test(log)) throw new Error(`ended without ${pattern}:\n${log}`);
    },
    alive,
    ended,
    end: (signal) => {
      if (alive()) child.kill(signal);
      return ended;
    },
  };
}
