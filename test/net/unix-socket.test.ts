import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { existsSync, lstatSync, mkdtempSync, readdirSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listenUnix, type UnixHandlers, type UnixListener } from '../../src/net/unix-socket.ts';
import { seededRandom } from '../support/random.ts';

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
  chunk: () => true,
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

/** Sends random bytes from a process of its own, in blocking writes: it is always ahead of the reader. */
function sendRandom(sizeBytes: number, seed: number): void {
  const script = `
import random, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(random.Random(${seed}).randbytes(${sizeBytes})); s.shutdown(socket.SHUT_WR); s.recv(1)`;
  Bun.spawn(['python3', '-c', script, path]);
}

/** What the same generator of Python makes. */
async function randomHash(sizeBytes: number, seed: number): Promise<string> {
  const script = `import hashlib, random
print(hashlib.sha256(random.Random(${seed}).randbytes(${sizeBytes})).hexdigest())`;
  return (await new Response(Bun.spawn(['python3', '-c', script], { stdout: 'pipe' }).stdout).text()).trim();
}

describe('a producer that is ahead', () => {
  const SIZE_BYTES = 24 * 1024 * 1024;

  /** Listens and reads all that one producer sends; `chunk` says whether more may be read at once. */
  async function readAll(seed: number, chunk: UnixHandlers<null>['chunk']) {
    const hash = new Bun.CryptoHasher('sha256');
    const buffers = new Map<ArrayBufferLike, number>();
    const ended = Promise.withResolvers<void>();
    const listener = await listenUnix(path, {
      ...ignore,
      chunk: (socket, bytes) => {
        hash.update(bytes);
        buffers.set(bytes.buffer, (buffers.get(bytes.buffer) ?? 0) + 1);
        return chunk(socket, bytes);
      },
      end: (socket) => {
        socket.end();
        ended.resolve();
      },
    });
    listeners.push(listener);
    sendRandom(SIZE_BYTES, seed);
    await ended.promise;
    return { hash: hash.digest('hex'), mostOfOneBuffer: Math.max(...buffers.values()) };
  }

  test('is read into one buffer, every byte once and in order', async () => {
    const { seed } = seededRandom('a producer that is ahead');
    const { hash, mostOfOneBuffer } = await readAll(seed, () => true);
    expect(hash).toBe(await randomHash(SIZE_BYTES, seed));
    expect(mostOfOneBuffer).toBeGreaterThan(10);
  }, 30_000);

  test('is not read from while it is paused', async () => {
    const { seed } = seededRandom('a producer that is ahead, paused');
    let paused = false;
    const { hash, mostOfOneBuffer } = await readAll(seed, (socket) => {
      expect(paused).toBe(false);
      paused = true;
      socket.pause();
      setTimeout(() => {
        paused = false;
        socket.resume();
      }, 1);
      return false;
    });
    expect(hash).toBe(await randomHash(SIZE_BYTES, seed));
    expect(mostOfOneBuffer).toBe(1);
  }, 30_000);
});
