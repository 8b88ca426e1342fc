// What the doctor looks at in a WAL and at its recorder.

import type { Config } from '../config.ts';
import { describeError } from '../errors.ts';
import { realFileSystem } from '../io/real-file-system.ts';
import { parseHttpAddress } from '../observe/http-server.ts';
import { readStatus, recorderState } from '../supervisor/status-file.ts';
import { readLock } from '../wal/lock.ts';
import { verifyWal } from '../wal/verify.ts';
import { type Finding, ok, shellWord, warning, wrong } from './doctor-finding.ts';

const STALE_STATUS_MS = 10_000;
const HTTP_TIMEOUT_MS = 2000;
/** The one that is written to may be empty yet. */
const LAST_SEGMENTS = 2;

/** Pid of the recorder that runs on the WAL, null where none does. */
export function runningPid({ walDir }: Config): number | null {
  if (recorderState(realFileSystem, walDir) !== 'running') return null;
  return readLock(realFileSystem, walDir)?.pid ?? null;
}

/** Whether a recorder runs, how the last one ended, and what the running one says of itself. */
export async function checkRecorder(config: Config): Promise<Finding[]> {
  const { walDir } = config;
  const state = recorderState(realFileSystem, walDir);
  if (state === 'stopped') return [ok('recorder', `no recorder runs on ${walDir}`)];
  if (state === 'killed') {
    const text = `the recorder of ${walDir} was killed; the next start recovers the WAL`;
    return [warning('recorder', text, 'systemctl start recorder')];
  }
  const status = readStatus(realFileSystem, walDir);
  const pid = readLock(realFileSystem, walDir)?.pid ?? 0;
  const silentMs = status === null ? 0 : Date.now() - Date.parse(status.updatedAt);
  if (silentMs > STALE_STATUS_MS) {
    const text = `process ${pid} has not said anything for ${Math.round(silentMs / 1000)} s: it hangs`;
    return [wrong('recorder', text, `cat /proc/${pid}/status; systemctl restart recorder`)];
  }
  return [ok('recorder', `process ${pid} records into ${walDir}`), ...(await checkHealth(config))];
}

interface ShownHealth {
  state: string;
  conditions: { tag: string; state: string; message: string; command: string }[];
}

/** Where the recorder of the WAL serves HTTP: as it says, unless an address is given; null: nowhere. */
function recorderUrl({ http, origins, walDir }: Config): string | null {
  const written = realFileSystem.exists(walDir) ? readStatus(realFileSystem, walDir) : null;
  if (origins.http === 'default' && written?.httpUrl !== undefined) {
    const { hostname, port } = new URL(written.httpUrl);
    return urlOf(hostname.replace(/^\[(.*)\]$/, '$1'), port);
  }
  if (http === '') return null;
  const { host, port } = parseHttpAddress(http);
  return urlOf(host, port);
}

/** An address to listen on as one to go to. */
function urlOf(host: string, port: number | string): string {
  const reached = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  return `http://${reached.includes(':') ? `[${reached}]` : reached}:${port}`;
}

/** Fetches from the recorder's HTTP server; null where it does not answer. */
export async function fetchFromRecorder<T>(config: Config, path: string): Promise<T | null> {
  const url = recorderUrl(config);
  if (url === null) return null;
  const { httpToken } = config;
  const headers: Record<string, string> = httpToken === '' ? {} : { authorization: `Bearer ${httpToken}` };
  try {
    const signal = AbortSignal.timeout(HTTP_TIMEOUT_MS);
    const response = await fetch(`${url}${path}`, { headers, signal, keepalive: false });
    if (!response.headers.get('content-type')?.startsWith('application/json')) return null;
    return (await response.json()) as T;
  } catch {
    return null;
  }
}

async function checkHealth(config: Config): Promise<Finding[]> {
  if (config.http === '') return [];
  const health = await fetchFromRecorder<ShownHealth>(config, '/health');
  if (!Array.isArray(health?.conditions)) {
    return [
      warning('health', `${config.http} does not answer with its health`, 'recorder config | grep HTTP'),
    ];
  }
  if (health.conditions.length === 0) return [ok('health', 'healthy')];
  return health.conditions.map(({ tag, state, message, command }) =>
    (state === 'degraded' ? warning : wrong)('health', `${state}, ${tag}: ${message}`, command),
  );
}

/** The end of the WAL, and that no segment is missing. */
export function checkWal({ walDir }: Config): Finding[] {
  if (!realFileSystem.exists(walDir)) return [];
  try {
    const { damaged, segments, endLsn } = verifyWal(realFileSystem, walDir, LAST_SEGMENTS);
    const bad = damaged.filter(({ kind }) => kind !== 'torn_tail' && kind !== 'unborn');
    if (bad.length === 0) {
      const tail = damaged.length > 0 ? '; a crash left an unfinished end, which a start removes' : '';
      return [ok('wal', `${segments} segments, the last of them intact up to row ${endLsn}${tail}`)];
    }
    return bad.slice(0, 5).map(({ segment, reason, firstLsn, lastLsn }) => {
      const rows = lastLsn >= firstLsn ? `, rows ${firstLsn} to ${lastLsn}` : '';
      return wrong('wal', `${segment}: ${reason}${rows}`, `recorder wal verify ${shellWord(walDir)}`);
    });
  } catch (error) {
    // A directory that has no WAL yet is none of the doctor's business.
    if (!realFileSystem.list(walDir).some((name) => name.endsWith('.wal'))) return [ok('wal', 'no WAL yet')];
    return [wrong('wal', describeError(error), `recorder wal verify ${shellWord(walDir)}`)];
  }
}
