import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { existsSync, lstatSync, mkdtempSync, readdirSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listenUnix, type UnixHandlers, type UnixListener } from '../../src/net/unix-socket.ts';

let folder = '';
let path = '';
let listeners: UnixListener[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'recorder-unix-'));
  path = join(folder, 'r.sock');
  listeners = [];
});
afterEach(() => {
  for (const listener of listeners) listener.stopAccepting();
  rmSync(folder, { recursive: true });
});

const ignore: UnixHandlers<null> = {
  open: () => null,
  chunk: () => {},
  end: (socket) => socket.end(),
  drain: () => {},
  close: () => {},
};

async function listen(mode?: number): Promise<UnixListener> {
  const listener = await listenUnix(path, ignore, mode);
  listeners.push(listener);
  return listener;
}

const failure = (code: string) => expect.objectContaining({ code, message: expect.stringContaining(path) });

/** Makes the socket file of a process that was killed. */
async function leaveStaleSocket(): Promise<void> {
  const listen = `Bun.listen({unix:${JSON.stringify(path)},socket:{data(){}}})`;
  const script = `${listen};process.stdout.write('up');setInterval(()=>{},1e3)`;
  const child = Bun.spawn([process.execPath, '-e', script], { stdout: 'pipe' });
  await child.stdout.getReader().read();
  child.kill('SIGKILL');
  await child.exited;
  expect(lstatSync(path).isSocket()).toBe(true);
}

describe('listenUnix', () => {
  test('makes a socket that only this user can reach, and removes it', async () => {
    const listener = await listen();
    expect(lstatSync(path).mode & 0o7777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(['r.sock']);
    expect(listener.tookOver).toBe(false);
    listener.stopAccepting();
    listener.stopAccepting();
    expect(readdirSync(folder)).toEqual([]);
  });

  test('gives the socket the mode that is asked for', async () => {
    await listen(0o660);
    expect(lstatSync(path).mode & 0o7777).toBe(0o660);
  });

  test('takes over the socket of a killed process', async () => {
    await leaveStaleSocket();
    const listener = await listen();
    expect(listener.tookOver).toBe(true);
    const client = await Bun.connect({ unix: path, socket: { data: () => {} } });
    client.end();
  });

  test('leaves a socket alone that somebody answers on', async () => {
    const first = await listen();
    const inode = lstatSync(path).ino;
    await expect(listen()).rejects.toEqual(failure('socket_in_use'));
    expect(lstatSync(path).ino).toBe(inode);
    const client = await Bun.connect({ unix: first.path, socket: { data: () => {} } });
    client.end();
    expect(readdirSync(folder)).toEqual(['r.sock']);
  });

  test('never replaces a file that is not a socket', async () => {
    writeFileSync(path, 'precious');
    await expect(listen()).rejects.toEqual(failure('socket_path_not_a_socket'));
    expect(await Bun.file(path).text()).toBe('precious');
  });

  test('leaves the file alone when it stops and the file is no longer its own', async () => {
    const first = await listen();
    unlinkSync(path);
    const second = await listen();
    first.stopAccepting();
    await Bun.sleep(20);
    expect(existsSync(path)).toBe(true);
    const client = await Bun.connect({ unix: second.path, socket: { data: () => {} } });
    client.end();
  });

  test('says what is wrong with a path that is too long or in no folder', async () => {
    path = join(folder, 'x'.repeat(120));
    await expect(listen()).rejects.toEqual(failure('socket_path_too_long'));
    path = join(folder, 'none', 'r.sock');
    await expect(listen()).rejects.toMatchObject({ code: 'socket_listen_failed' });
  });
});
