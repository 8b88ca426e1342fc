// Who may connect to the Unix socket: its owner, its mode, and the list of users, asked of the kernel.

import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { chmodSync, lstatSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StreamTable } from '../../src/net/session.ts';
import { peerCredentials } from '../../src/net/socket-options.ts';
import { createStreamListener, type StreamListener } from '../../src/net/stream-listener.ts';
import { socketOwnership } from '../../src/supervisor/ingest/socket-ownership.ts';
import { connectRaw } from '../support/raw-connection.ts';
import { prefixed, RecordingSink, testFrame, until } from './recording-sink.ts';

const self = process.getuid!();
const isRoot = self === 0;
/** nobody: exists on every Linux. */
const OTHER = 65_534;

let folder = '';
let path = '';
let sink: RecordingSink;
let listener: StreamListener;
let notices: string[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'recorder-access-'));
  chmodSync(folder, 0o755);
  path = join(folder, 'r.sock');
  notices = [];
});
afterEach(() => {
  listener.close();
  rmSync(folder, { recursive: true });
});

async function start(allowedUids: number[] | null, owner = { uid: -1, gid: -1 }): Promise<void> {
  sink = new RecordingSink();
  const notice = (text: string) => notices.push(text);
  const streams = new StreamTable();
  listener = await createStreamListener({ path, mode: 0o666, owner, allowedUids, streams, sink, notice });
}

/** Another process, of another user, that sends a frame and prints what it is answered. */
async function sendAs(uid: number): Promise<string> {
  const script = `
import os, socket, sys
if os.getuid() != ${uid}: os.setgid(${uid}); os.setuid(${uid})
s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1])
try:
  s.sendall(bytes.fromhex(sys.argv[2])); s.shutdown(socket.SHUT_WR)
except OSError: pass
out = b''
try:
  while chunk := s.recv(4096): out += chunk
except OSError: pass
sys.stdout.write(out.decode('latin-1'))`;
  const frame = Buffer.from(prefixed(testFrame(1))).toString('hex');
  const child = Bun.spawn(['/usr/bin/python3', '-c', script, path, frame], {
    stdout: 'pipe',
    stderr: 'inherit',
  });
  const [output, code] = await Promise.all([new Response(child.stdout).text(), child.exited]);
  expect(code).toBe(0);
  return output;
}

describe('users that may send', () => {
  test('a user of the list is recorded', async () => {
    await start([OTHER, self]);
    const connection = await connectRaw(path);
    await connection.write(prefixed(testFrame(1)));
    await until(() => sink.frames.length === 1, 'the frame');
    connection.destroy();
    expect(listener.stats.refused).toBe(0);
  });

  test('anybody else is told so and closed, and nothing of it is recorded', async () => {
    await start([self + 1]);
    expect(await sendAs(self)).toContain('this user may not send');
    expect([sink.frames.length, sink.refused.length]).toEqual([0, 0]);
    expect(listener.stats).toMatchObject({ refused: 1, connections: 0, frames: 0 });
    expect(notices[0]).toContain(`user ${self} (process `);
  });

  test.skipIf(!isRoot)(
    'the kernel names the user, whatever the file mode admits',
    async () => {
      await start([self]);
      expect(await sendAs(OTHER)).toContain('this user may not send');
      expect(sink.frames).toHaveLength(0);
      listener.close();
      await start([OTHER]);
      expect(await sendAs(OTHER)).toBe('');
      expect(sink.frames).toHaveLength(1);
    },
    20_000,
  );

  test('without a list the file mode decides', async () => {
    await start(null);
    const connection = await connectRaw(path);
    await connection.write(prefixed(testFrame(1)));
    await until(() => sink.frames.length === 1, 'the frame');
    connection.destroy();
  });

  test('a descriptor that is no socket has no peer', async () => {
    await start(null);
    expect(peerCredentials(0xffff)).toBeNull();
  });
});

describe('owner of the socket', () => {
  test.skipIf(!isRoot)('by number and by name', async () => {
    await start(null, socketOwnership({ user: 'nobody', group: '4321' }));
    const { uid, gid } = lstatSync(path);
    expect([uid, gid]).toEqual([OTHER, 4321]);
  });

  test('an unknown name is an error that says where it was looked for', async () => {
    await start(null);
    expect(socketOwnership(null)).toEqual({ uid: -1, gid: -1 });
    expect(() => socketOwnership({ user: 'no-such-user', group: null })).toThrow('/etc/passwd has no user');
    expect(() => socketOwnership({ user: null, group: 'no-such-group' })).toThrow('/etc/group has no group');
  });
});
