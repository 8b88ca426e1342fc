// What the doctor looks at on this host: configuration, directories, limits, disk.

import { accessSync, constants, existsSync, readFileSync, type Stats, statfsSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type Config, settingNames, unknownVariables } from '../config.ts';
import { readConfigFile } from '../config-file.ts';
import { describeError } from '../errors.ts';
import { realFileSystem } from '../io/real-file-system.ts';
import { settings } from '../settings.ts';
import { diskThresholds } from '../supervisor/guards/disk-monitor.ts';
import { socketOwnership } from '../supervisor/ingest/socket-ownership.ts';
import { type Finding, ok, shellWord, sizeText, warning, wrong } from './doctor-finding.ts';

const OTHERS_READ = 0o004;
const OTHERS_ANY = 0o007;
/** Connections, segments, and what ClickHouse, HTTP and the runtime take. */
const LEAST_OPEN_FILES = 4096;
const TMPFS = 0x0102_1994;

const statOf = (path: string): Stats | null => statSync(path, { throwIfNoEntry: false }) ?? null;

/** Certificates are for everybody; their key, passwords and tokens are not. */
const isSecretFile = (env: string) => env.endsWith('_FILE') && !/_(?:CA|CERT|CONFIG)_FILE$/.test(env);

/** Files that hold a secret: those that are one, and the file of settings where one is set in it. */
function secretFiles(config: Config): string[] {
  const paths = settingNames.filter((name) => isSecretFile(settings[name].env)).map((name) => config[name]);
  if (config.configFile !== '') {
    const given = readConfigFile(config.configFile);
    const hasSecret = settingNames.some((name) => settings[name].secret && given[settings[name].env]);
    if (hasSecret) paths.push(config.configFile);
  }
  return paths.filter((path): path is string => typeof path === 'string' && path !== '');
}

/** Unknown variables, and secrets that others can read. */
export function checkConfig(config: Config, env: Record<string, string | undefined>): Finding[] {
  const unknown = unknownVariables(env, config.configFile);
  const found = unknown.map((text) => warning('config', text, 'recorder config'));
  for (const path of secretFiles(config)) {
    const mode = statOf(path)?.mode ?? 0;
    if ((mode & OTHERS_READ) === 0) continue;
    const text = `every user of this host can read the secret in ${path}`;
    found.push(warning('config', text, `chmod o= ${shellWord(path)}`));
  }
  return found.length > 0 ? found : [ok('config', 'all settings are valid')];
}

function isAllowed(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

/** The nearest directory above `path` that is there. */
export function nearestDirectory(path: string): string {
  let dir = resolve(path);
  while (!existsSync(dir)) dir = dirname(dir);
  return dir;
}

const USE_DIRECTORY = constants.R_OK | constants.W_OK | constants.X_OK;

/** The WAL directory: there or to be made, writable, and nobody else's business. */
export function checkWalDirectory({ walDir }: Config): Finding[] {
  const stats = statOf(walDir);
  const word = shellWord(walDir);
  if (stats === null) {
    const parent = nearestDirectory(walDir);
    if (isAllowed(parent, USE_DIRECTORY))
      return [ok('wal_dir', `${walDir} is not there yet; the start makes it`)];
    const text = `${walDir} is not there, and this user cannot make it in ${parent}`;
    return [wrong('wal_dir', text, `sudo install -d -m 0750 -o "$(id -un)" ${word}`)];
  }
  if (!stats.isDirectory()) return [wrong('wal_dir', `${walDir} is no directory`, `ls -ld ${word}`)];
  if (!isAllowed(walDir, USE_DIRECTORY)) {
    const mode = (stats.mode & 0o777).toString(8);
    const text = `this user cannot read and write ${walDir} (owner ${stats.uid}, mode 0${mode})`;
    return [wrong('wal_dir', text, `sudo chown -R "$(id -un)" ${word}`)];
  }
  if ((stats.mode & OTHERS_ANY) !== 0) {
    const text = `other users of this host may look into ${walDir}, which holds every order and fill`;
    return [warning('wal_dir', text, `chmod o= ${word}`)];
  }
  return [ok('wal_dir', `${walDir} can be read and written`)];
}

/** Where producers connect. */
export function checkSocket({ socketPath, socketOwner, udp }: Config): Finding[] {
  if (socketPath === '') {
    if (udp !== '') return [ok('socket', 'no Unix socket: UDP only')];
    return [
      wrong('socket', 'neither a socket nor UDP: nothing can be recorded', 'unset HFT_RECORDER_SOCKET'),
    ];
  }
  const found: Finding[] = [];
  const folder = dirname(resolve(socketPath));
  const stats = statOf(socketPath);
  if (!existsSync(folder))
    found.push(wrong('socket', `${folder} is not there`, `mkdir -p ${shellWord(folder)}`));
  else if (!isAllowed(folder, USE_DIRECTORY)) {
    const text = `this user cannot make a socket in ${folder}`;
    found.push(wrong('socket', text, `sudo chown "$(id -un)" ${shellWord(folder)}`));
  } else if (stats !== null && !stats.isSocket()) {
    const text = `${socketPath} is there and is no socket`;
    found.push(wrong('socket', text, `ls -l ${shellWord(socketPath)}`));
  }
  try {
    socketOwnership(socketOwner);
  } catch (error) {
    found.push(wrong('socket', describeError(error), 'getent passwd; getent group'));
  }
  return found.length > 0 ? found : [ok('socket', `${socketPath} can be made`)];
}

function numberFrom(path: string, pattern = /(\d+)/): number | null {
  try {
    const text = pattern.exec(readFileSync(path, 'utf8'))?.[1];
    return text === undefined ? null : text === 'unlimited' ? Number.POSITIVE_INFINITY : Number(text);
  } catch {
    return null;
  }
}

/**
 * Limits of the kernel against what is asked for.
 * @param pid the running recorder, whose limits count; else this process'
 */
export function checkLimits({ udp, udpReceiveBufferBytes: asked }: Config, pid: number | null): Finding[] {
  const found: Finding[] = [];
  const granted = numberFrom('/proc/sys/net/core/rmem_max');
  if (udp === '') found.push(ok('udp_buffer', 'no UDP feed: no receive buffer is needed'));
  else if (granted === null) found.push(ok('udp_buffer', 'net.core.rmem_max is not known on this system'));
  else if (granted < asked) {
    const text = `UDP asks for ${sizeText(asked)} of receive buffer, the kernel grants ${sizeText(granted)}`;
    found.push(warning('udp_buffer', text, `sudo sysctl -w net.core.rmem_max=${asked}`));
  } else found.push(ok('udp_buffer', `the kernel grants ${sizeText(granted)} of receive buffer`));
  const files = numberFrom(`/proc/${pid ?? 'self'}/limits`, /^Max open files\s+(\d+|unlimited)/m);
  if (files !== null && files < LEAST_OPEN_FILES) {
    const text = `${files} files may be open, ${LEAST_OPEN_FILES} are needed for 1024 producers`;
    found.push(warning('open_files', text, 'ulimit -n 65536, or LimitNOFILE=65536 in the unit'));
  } else found.push(ok('open_files', `${files ?? 'an unknown number of'} files may be open`));
  return found;
}

/** Free space against the levels at which topics stop. */
export function checkSpace(config: Config): Finding[] {
  const dir = nearestDirectory(config.walDir);
  const { bavail, blocks, bsize, type } = statfsSync(dir);
  const [freeBytes, sizeBytes] = [bavail * bsize, blocks * bsize];
  const { diskWarnBytes, diskCriticalBytes, diskHaltBytes, walMaxBytes, walSegmentBytes } = config;
  const given = {
    warnBytes: diskWarnBytes,
    criticalBytes: diskCriticalBytes,
    haltBytes: diskHaltBytes,
    walMaxBytes,
  };
  const { warnBytes, criticalBytes } = diskThresholds(given, sizeBytes, walSegmentBytes);
  const shown = `${sizeText(freeBytes)} of ${sizeText(sizeBytes)} are free in ${dir}`;
  const found: Finding[] = [];
  if (freeBytes < criticalBytes)
    found.push(
      wrong(
        'disk_space',
        `${shown}: market data stops below ${sizeText(criticalBytes)}`,
        `du -xsh ${shellWord(dir)}/*`,
      ),
    );
  else if (freeBytes < warnBytes)
    found.push(warning('disk_space', `${shown}: it runs out soon`, `du -xsh ${shellWord(dir)}/*`));
  else found.push(ok('disk_space', shown));
  if (type === TMPFS)
    found.push(
      warning(
        'disk_space',
        `${dir} is in memory: a reboot loses it`,
        'set HFT_WAL_DIR to a directory on a disk',
      ),
    );
  return found;
}

const PROBE_BYTES = 4096;
const PROBE_SYNCS = 100;
const PROBE_MS = 1500;
/** Acknowledgements wait for a sync: beyond this a producer notices. */
const SLOW_P99_MS = 100;

/** How long a small fdatasync takes, where the WAL is or will be. Its file is gone afterwards. */
export async function checkDiskSpeed({ walDir }: Config): Promise<Finding[]> {
  const path = `${nearestDirectory(walDir)}/.recorder-doctor-${process.pid}`;
  const times: number[] = [];
  try {
    const file = realFileSystem.open(path, 'create');
    try {
      const bytes = new Uint8Array(PROBE_BYTES).fill(1);
      const endMs = performance.now() + PROBE_MS;
      for (let i = 0; i < PROBE_SYNCS && performance.now() < endMs; i++) {
        file.write(bytes, i * PROBE_BYTES);
        const startMs = performance.now();
        await file.sync();
        times.push(performance.now() - startMs);
      }
    } finally {
      file.close();
      realFileSystem.unlink(path);
    }
  } catch (error) {
    return [
      wrong('disk_speed', `the disk takes no file: ${describeError(error)}`, `df -h ${shellWord(walDir)}`),
    ];
  }
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))]!;
  const [p50, p99] = [at(0.5), at(0.99)];
  const shown = `${p50.toFixed(2)} ms (p50), ${p99.toFixed(2)} ms (p99)`;
  const text = `a sync of 4 KiB takes ${shown}, ${times.length} tried`;
  if (p99 > SLOW_P99_MS)
    return [warning('disk_speed', `${text}: acknowledgements are late`, 'iostat -x 1 5')];
  return [ok('disk_speed', text)];
}
