// A file system of a given size that a test may fill: a tmpfs. Needs the right to mount.

import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface SmallDisk {
  readonly path: string;
  /** Another program takes more space, until `leaveBytes` are free. */
  fill(leaveBytes: number): void;
  /** Another program takes all there is, and whatever comes free, until it is disposed of. */
  hog(): Disposable;
  /** The other program gives all its space back. */
  empty(): void;
  unmount(): void;
}

const CHUNK_BYTES = 4096;

/** Mounts a file system of `sizeBytes`; null where that is not allowed. */
export function mountDisk(sizeBytes: number): SmallDisk | null {
  const path = mkdtempSync(join(tmpdir(), 'recorder-disk-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'tmpfs', path]);
  if (mounted.status !== 0) {
    rmSync(path, { recursive: true });
    return null;
  }
  const ballast = join(path, 'ballast');
  const empty = () => rmSync(ballast, { force: true });
  return {
    path,
    fill(leaveBytes) {
      const { bavail, bsize } = statfsSync(path);
      const chunks = Math.floor(Math.max(0, bavail * bsize - leaveBytes) / CHUNK_BYTES);
      // One chunk more than there is room for: not a page is left.
      const count = leaveBytes === 0 ? chunks + 1 : chunks;
      const how = [`bs=${CHUNK_BYTES}`, `count=${count}`, 'oflag=append', 'conv=notrunc'];
      spawnSync('dd', ['if=/dev/zero', `of=${ballast}`, ...how]);
    },
    hog() {
      const take = 'while :; do cat /dev/zero >> "$0" 2> /dev/null; sleep 0.01; done';
      // A group of its own: the command under way ends with the shell.
      const { pid } = spawn('sh', ['-c', take, ballast], { stdio: 'ignore', detached: true });
      return { [Symbol.dispose]: () => void process.kill(-pid!, 'SIGKILL') };
    },
    empty,
    unmount() {
      spawnSync('umount', ['-l', path]);
      rmSync(path, { recursive: true, force: true });
    },
  };
}

/** Whether disks can be mounted here; says loudly when not. */
export function canMountDisk(): boolean {
  const disk = mountDisk(1 << 20);
  disk?.unmount();
  if (disk === null)
    process.stderr.write('\n*** SKIPPED: tests of a full disk need the right to mount a tmpfs (root)\n\n');
  return disk !== null;
}
