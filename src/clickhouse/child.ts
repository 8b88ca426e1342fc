// The embedded server as a supervised child process: started, watched, restarted when it dies, stopped.
//
// Invariants
// - The child ends with its parent, even a killed one: it stops when its standard input ends.
// - After a crash it comes back on the same port and directory; restarts are bounded, with growing pauses, so
//   that a server that cannot run is reported and not started for ever.

import { RecorderError } from '../errors.ts';
import { ownCommand } from '../own-program.ts';

/** What startEmbedded needs. */
export interface EmbeddedOptions {
  /** Data directory; made if absent. */
  path: string;
  /** Port, default 0: the system chooses; a restarted server keeps it. */
  port?: number;
  host?: string;
  /** Told of each unexpected end and each restart, with a text for the log. */
  onEvent?: (event: EmbeddedEvent) => void;
  /** Longest wait for a start, default 30 s. */
  startTimeoutMs?: number;
  /** Restarts in a row without a healthy minute between them, default 5. */
  maxRestarts?: number;
  /** Command that runs `clickhouse`; default: this program. */
  command?: readonly string[];
}

/** An unexpected change of the child. */
export interface EmbeddedEvent {
  kind: 'died' | 'restarted' | 'gave_up';
  message: string;
}

/** A running embedded server. */
export interface EmbeddedServer {
  url: string;
  port: number;
  version: string;
  /** Process id of the child that runs now. */
  readonly pid: number;
  /** Stops the child: it ends its statements first; killed after `deadlineMs`. Idempotent. */
  stop(deadlineMs?: number): Promise<void>;
  /**
   * Resolves when no child runs any more and none will be started: after stop(), or when restarts are used
   * up.
   */
  exited: Promise<void>;
}

type Child = Bun.Subprocess<'pipe', 'pipe', 'inherit'>;

interface Announcement {
  url: string;
  port: number;
  version: string;
}

/** Why the child did not start, in its own words. */
interface StartFailure {
  error: { code: string; message: string };
}

const HEALTHY_MS = 60_000;
const FIRST_PAUSE_MS = 200;
/** Attempts while the directory or the port is still held: 6 s with their pauses. */
const START_ATTEMPTS = 6;
const HELD = ['clickhouse_path', 'clickhouse_port'];

/** Reads the child's first line of JSON, null when there is none; later output is read and dropped. */
async function firstAnswer(child: Child): Promise<Announcement | StartFailure | null> {
  const decoder = new TextDecoder();
  const reader = child.stdout.getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return null;
    text += decoder.decode(value, { stream: true });
    const lines = text.split('\n').slice(0, -1);
    const line = lines.find((candidate) => candidate.startsWith('{'));
    if (line === undefined) continue;
    const drain = async () => {
      while (!(await reader.read()).done);
    };
    drain().catch(() => undefined);
    return JSON.parse(line) as Announcement | StartFailure;
  }
}

/** Starts one child and waits until it answers. Throws RecorderError with the child's code. */
async function launch(options: EmbeddedOptions, port: number): Promise<{ child: Child; said: Announcement }> {
  const host = options.host ?? '127.0.0.1';
  const child: Child = Bun.spawn(
    [
      ...(options.command ?? ownCommand()),
      'clickhouse',
      ...['--path', options.path, '--port', String(port), '--host', host, '--json', '--supervised'],
    ],
    { stdin: 'pipe', stdout: 'pipe', stderr: 'inherit' },
  );
  const timeoutMs = options.startTimeoutMs ?? 30_000;
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  try {
    const said = await firstAnswer(child);
    if (said !== null && 'url' in said && (await fetch(`${said.url}/ping`)).ok) return { child, said };
    const code = await child.exited;
    if (said !== null && 'error' in said) throw new RecorderError(said.error.code, said.error.message);
    throw new RecorderError(
      'clickhouse_start',
      child.signalCode === null
        ? `the embedded ClickHouse server ended with exit code ${code} before it was ready`
        : `the embedded ClickHouse server was not ready within ${timeoutMs} ms (${child.signalCode})`,
      { hint: 'its own message is on standard error' },
    );
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The server of a recorder that was killed ends its statements before it lets go of directory and port: the
 * start is tried again for a while.
 */
async function launchPatiently(options: EmbeddedOptions, port: number) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await launch(options, port);
    } catch (error) {
      const isHeld = error instanceof RecorderError && HELD.includes(error.code);
      if (!isHeld || attempt === START_ATTEMPTS) throw error;
      await Bun.sleep(FIRST_PAUSE_MS * 2 ** (attempt - 1));
    }
  }
}

/**
 * Starts the embedded server as a child of this process, waits until it answers, and supervises it.
 * Throws RecorderError when it does not come up.
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedServer> {
  let { child, said } = await launchPatiently(options, options.port ?? 0);
  let stopping = false;
  const tell = (kind: EmbeddedEvent['kind'], message: string) => options.onEvent?.({ kind, message });

  const supervise = async (): Promise<void> => {
    let restarts = 0;
    for (;;) {
      const startedAt = Date.now();
      const code = await child.exited;
      if (stopping) return;
      tell('died', `embedded ClickHouse (pid ${child.pid}) died: ${child.signalCode ?? `exit code ${code}`}`);
      if (Date.now() - startedAt > HEALTHY_MS) restarts = 0;
      for (let running = false; !running; ) {
        if (restarts >= (options.maxRestarts ?? 5)) {
          return tell('gave_up', `embedded ClickHouse was restarted ${restarts} times and does not stay up`);
        }
        await Bun.sleep(FIRST_PAUSE_MS * 2 ** restarts);
        restarts++;
        if (stopping) return;
        running = await launch(options, said.port).then(
          (next) => {
            child = next.child;
            said = next.said;
            return true;
          },
          () => false,
        );
      }
      if (stopping) child.stdin.end();
      else tell('restarted', `embedded ClickHouse runs again as pid ${child.pid} on port ${said.port}`);
    }
  };
  const exited = supervise();

  return {
    url: said.url,
    port: said.port,
    version: said.version,
    get pid() {
      return child.pid;
    },
    exited,
    stop: async (deadlineMs = 10_000) => {
      stopping = true;
      const timer = setTimeout(() => child.kill('SIGKILL'), deadlineMs);
      await child.stdin.end();
      await exited;
      clearTimeout(timer);
    },
  };
}
