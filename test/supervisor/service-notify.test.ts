// sd_notify against a real datagram socket, made by Python; then `serve` under it.

import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { openServiceNotifier } from '../../src/supervisor/service-notify.ts';
import { startRecorderProcess, temporaryHome, until } from '../support/recorder-process.ts';

/** Binds a datagram socket and prints each message as a line of JSON. */
const LISTEN = `
import json, socket, sys
name = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind('\\0' + name[1:] if name.startswith('@') else name)
print('"bound"', flush=True)
while True: print(json.dumps(s.recv(4096).decode()), flush=True)`;

let home: ReturnType<typeof temporaryHome>;
let child: Bun.Subprocess<'ignore', 'pipe', 'inherit'>;
let messages: string[] = [];

async function listen(name: string): Promise<void> {
  messages = [];
  child = Bun.spawn(['/usr/bin/python3', '-c', LISTEN, name], { stdin: 'ignore', stdout: 'pipe' });
  void (async () => {
    const decoder = new TextDecoder();
    let rest = '';
    for await (const chunk of child.stdout) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop()!;
      messages.push(...lines.map((line) => JSON.parse(line) as string));
    }
  })();
  await until(() => messages.shift() === 'bound', 'the socket');
}

const received = (text: string) =>
  until(
    () => messages.includes(text),
    () => JSON.stringify(messages),
    20_000,
  );

beforeEach(() => {
  home = temporaryHome();
});
afterEach(async () => {
  child?.kill('SIGKILL');
  await child?.exited;
  home[Symbol.dispose]();
});

describe('service notifier', () => {
  test.each(['path', 'abstract'])(
    'ready, alive, stopping; by %s',
    async (kind) => {
      const name = kind === 'path' ? join(home.path, 'n') : `@recorder-test-${process.pid}`;
      await listen(name);
      const env: Record<string, string | undefined> = {
        NOTIFY_SOCKET: name,
        WATCHDOG_USEC: '60000',
        WATCHDOG_PID: String(process.pid),
      };
      const failures: string[] = [];
      const notifier = openServiceNotifier(env, (text) => failures.push(text));
      expect(env).toEqual({});
      notifier.ready('up');
      await until(() => messages.filter((text) => text === 'WATCHDOG=1').length >= 3, 'the watchdog');
      expect(messages[0]).toBe('READY=1\nSTATUS=up');
      notifier.stopping(1500);
      await received('STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=1500000');
      notifier.close();
      expect(failures).toEqual([]);
    },
    20_000,
  );

  test("another process's watchdog is not fed", async () => {
    await listen(join(home.path, 'n'));
    const env = { NOTIFY_SOCKET: join(home.path, 'n'), WATCHDOG_USEC: '1000', WATCHDOG_PID: '1' };
    const notifier = openServiceNotifier(env, () => {});
    notifier.ready('up');
    await Bun.sleep(50);
    notifier.stopping(0);
    await received('STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=0');
    expect(messages).not.toContain('WATCHDOG=1');
    notifier.close();
  }, 20_000);

  test('a manager that is not there is said once, and stops nothing', () => {
    for (const path of [join(home.path, 'none'), 'relative', `/${'x'.repeat(200)}`]) {
      const failures: string[] = [];
      const notifier = openServiceNotifier({ NOTIFY_SOCKET: path }, (text) => failures.push(text));
      notifier.ready('up');
      notifier.stopping(1);
      notifier.close();
      expect(failures).toHaveLength(1);
      expect(failures[0]).toContain(path);
    }
    const silent = openServiceNotifier({}, (text) => expect.unreachable(text));
    silent.ready('up');
    silent.stopping(1);
  });

  test('serve says ready when producers may connect, feeds the watchdog, says that it stops', async () => {
    const name = join(home.path, 'n');
    await listen(name);
    const recorder = await startRecorderProcess(home.path, {
      env: { HFT_DISABLE_CLICKHOUSE: '1', NOTIFY_SOCKET: name, WATCHDOG_USEC: '300000' },
    });
    await received('WATCHDOG=1');
    expect(messages[0]).toStartWith('READY=1\nSTATUS=ClickHouse is off');
    const { code } = await recorder.end('SIGTERM');
    expect(code).toBe(0);
    await received('STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=60000000');
  }, 60_000);
});
