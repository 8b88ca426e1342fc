// Starts Debian's clickhouse-server (18.16) for tests: a real server of the oldest kind that the recorder
// supports. It gets its own configuration, data directory and port, and dies with the test process.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const PROGRAMS = ['/usr/sbin/clickhouse-server', '/usr/bin/clickhouse-server'];
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;
const START_TRIES = 3;

export interface ClickHouse18 {
  url: string;
  pid: number;
  /** Stops the server and removes its data. */
  stop(): Promise<void>;
  /**
   * Ends the server at once, as a crash would, and keeps its data; `restart` brings it back on the same port.
   */
  kill(): Promise<void>;
  restart(): Promise<void>;
}

/** Path of the installed clickhouse-server, or null. */
export function clickHouse18Program(): string | null {
  return PROGRAMS.find((path) => existsSync(path)) ?? null;
}

/** Whether the tests can run against 18.16; says loudly when they cannot. */
export function hasClickHouse18(): boolean {
  const found = clickHouse18Program() !== null;
  if (!found) {
    process.stderr.write(
      '\n*** clickhouse-server is not installed: the tests against ClickHouse 18.16 DO NOT RUN.' +
        ' Install it with: apt-get install clickhouse-server\n\n',
    );
  }
  return found;
}

/**
 * Starts a server and waits until it answers.
 * @throws Error naming the program to install, or with the end of the server's log when it does not come up
 */
export async function startClickHouse18(): Promise<ClickHouse18> {
  const program = clickHouse18Program();
  if (program === null)
    throw new Error('clickhouse-server is not installed: apt-get install clickhouse-server');
  const directory = mkdtempSync(join(tmpdir(), 'recorder-ch18-'));
  let failure: unknown;
  for (let attempt = 0; attempt < START_TRIES; attempt++) {
    const port = await freePort();
    writeConfiguration(directory, port);
    try {
      let child = await launch(program, directory, port);
      return {
        url: `http://127.0.0.1:${port}`,
        get pid() {
          return child.pid!;
        },
        stop: async () => {
          await end(child, 'SIGTERM');
          rmSync(directory, { recursive: true, force: true });
        },
        kill: () => end(child, 'SIGKILL'),
        restart: async () => {
          child = await launch(program, directory, port);
        },
      };
    } catch (error) {
      failure = error; // most likely another process took the port between the look and the start
    }
  }
  rmSync(directory, { recursive: true, force: true });
  throw failure;
}

async function launch(program: string, directory: string, port: number): Promise<ChildProcess> {
  const command = [program, `--config-file=${join(directory, 'config.xml')}`];
  // setpriv makes the kernel end the server when the test process dies, however it dies.
  const wrapper = existsSync('/usr/bin/setpriv') ? ['/usr/bin/setpriv', '--pdeathsig', 'KILL'] : [];
  const argv = [...wrapper, ...command];
  const child = spawn(argv[0]!, argv.slice(1), { cwd: directory, stdio: 'ignore' });
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (Date.now() < deadline) {
    if (child.exitCode !== null || child.signalCode !== null) break;
    if (await answers(port)) return child;
    await Bun.sleep(50);
  }
  await end(child, 'SIGKILL');
  throw new Error(`clickhouse-server did not start:\n${logTail(directory)}`);
}

async function answers(port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/ping`, { keepalive: false });
    return (await response.text()).startsWith('Ok');
  } catch {
    return false;
  }
}

function end(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    child.once('exit', () => {
      clearTimeout(timer);
      resolve();
    });
    child.kill(signal);
  });
}

function logTail(directory: string): string {
  const path = join(directory, 'error.log');
  return existsSync(path) ? readFileSync(path, 'utf8').slice(-2_000) : 'no log was written';
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

function writeConfiguration(directory: string, port: number): void {
  for (const name of ['data', 'tmp', 'user_files', 'format_schemas']) {
    mkdirSync(join(directory, name), { recursive: true });
  }
  writeFileSync(
    join(directory, 'config.xml'),
    `<?xml version="1.0"?>
<yandex>
  <logger><level>warning</level><log>${directory}/server.log</log>
    <errorlog>${directory}/error.log</errorlog></logger>
  <http_port>${port}</http_port>
  <listen_host>127.0.0.1</listen_host>
  <keep_alive_timeout>3</keep_alive_timeout>
  <max_concurrent_queries>100</max_concurrent_queries>
  <uncompressed_cache_size>67108864</uncompressed_cache_size>
  <mark_cache_size>67108864</mark_cache_size>
  <path>${directory}/data/</path>
  <tmp_path>${directory}/tmp/</tmp_path>
  <user_files_path>${directory}/user_files/</user_files_path>
  <format_schema_path>${directory}/format_schemas/</format_schema_path>
  <users_config>${directory}/users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <timezone>UTC</timezone>
</yandex>
`,
  );
  writeFileSync(
    join(directory, 'users.xml'),
    `<?xml version="1.0"?>
<yandex>
  <profiles><default><max_memory_usage>4000000000</max_memory_usage></default></profiles>
  <users><default>
    <password></password>
    <networks><ip>::/0</ip></networks>
    <profile>default</profile><quota>default</quota>
  </default></users>
  <quotas><default><interval>
    <duration>3600</duration><queries>0</queries><errors>0</errors>
    <result_rows>0</result_rows><read_rows>0</read_rows><execution_time>0</execution_time>
  </interval></default></quotas>
</yandex>
`,
  );
}
