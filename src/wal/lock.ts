// One owner of a WAL directory at a time. The file `lock` names the owner; it is made with its content in one
// step (link), and a dead owner's is moved away in one step (rename), so two starters cannot both win.

import fs from 'node:fs';
import os from 'node:os';
import type { FileSystem } from '../io/file-system.ts';
import { errorCode } from '../io/file-system.ts';
import { WalLockedError } from './errors.ts';

export const LOCK_FILE = 'lock';
/** Files of a start that is under way, with the starter's pid. */
const LEFTOVER = /^lock\.(?:stale-)?(\d+)-[-0-9a-f]{36}$/;

export interface LockOwner {
  pid: number;
  host: string;
  /** Changes with every boot: a pid of an earlier boot is dead. */
  bootId: string;
  /** Start time of the process as the kernel counts it: tells a reused pid from the owner. */
  processStart: string;
  /** ISO time. */
  startedAt: string;
}

export interface WalLock {
  /** The dead owner whose lock was taken over, if there was one. */
  takenOverFrom: LockOwner | null;
  /** Removes the lock file if it is still this owner's. */
  release(): void;
}

function readText(path: string): string {
  try {
    return fs.readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

/**
 * Start time of a process in clock ticks since boot; empty when there is no such process, or only its
 * remains.
 */
function processStart(pid: number): string {
  // The name in parentheses may hold spaces and parentheses: fields are counted after the last one.
  const stat = readText(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // A zombie has ended, whether its parent has noticed or not.
  return fields[0] === 'Z' || fields[0] === 'X' ? '' : (fields[19] ?? '');
}

let self: Omit<LockOwner, 'startedAt'> | null = null;

function thisOwner(): LockOwner {
  self ??= {
    pid: process.pid,
    host: os.hostname(),
    bootId: readText('/proc/sys/kernel/random/boot_id'),
    processStart: processStart(process.pid),
  };
  return { ...self, startedAt: new Date().toISOString() };
}

/** Whether the owner runs: `other_host` when that cannot be known from here. */
export function ownerState(owner: LockOwner): 'alive' | 'dead' | 'other_host' {
  const self = thisOwner();
  if (owner.host !== self.host) return 'other_host';
  if (owner.bootId !== self.bootId) return 'dead';
  const start = processStart(owner.pid);
  return start !== '' && start === owner.processStart ? 'alive' : 'dead';
}

/** The owner named by the lock of a WAL directory, or null when it is not locked. */
export function readLock(fileSystem: FileSystem, dir: string): LockOwner | null {
  return parseOwner(readBytes(fileSystem, `${dir}/${LOCK_FILE}`));
}

function readBytes(fileSystem: FileSystem, path: string): string | null {
  try {
    return new TextDecoder().decode(fileSystem.readFile(path));
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

/** An unreadable lock is one that a power loss tore: its owner is dead. */
function parseOwner(text: string | null): LockOwner | null {
  if (text === null) return null;
  const torn: LockOwner = { pid: 0, host: os.hostname(), bootId: '', processStart: '', startedAt: '' };
  try {
    const owner = JSON.parse(text) as Partial<LockOwner> | null;
    return typeof owner?.pid === 'number' && typeof owner.host === 'string' ? { ...torn, ...owner } : torn;
  } catch {
    return torn;
  }
}

/** Takes the lock of `dir`, or throws WalLockedError that names the holder. */
export function acquireLock(fileSystem: FileSystem, dir: string): WalLock {
  const path = `${dir}/${LOCK_FILE}`;
  const mine = JSON.stringify(thisOwner());
  const temporary = `${path}.${process.pid}-${crypto.randomUUID()}`;
  const file = fileSystem.open(temporary, 'create');
  let takenOverFrom: LockOwner | null = null;
  try {
    file.write(new TextEncoder().encode(mine), 0);
    file.syncNow();
    while (!tryLink(fileSystem, temporary, path)) {
      takenOverFrom = removeDeadOwner(fileSystem, dir, path) ?? takenOverFrom;
    }
  } finally {
    file.close();
    tolerant(() => fileSystem.unlink(temporary));
  }
  tolerant(() => removeLeftovers(fileSystem, dir));
  return {
    takenOverFrom,
    // What a failing disk keeps of it is the lock of a dead owner.
    release: () =>
      tolerant(() => {
        if (readBytes(fileSystem, path) === mine) fileSystem.unlink(path);
      }),
  };
}

/** Removes what starters of this lock have left that were killed half-way. */
function removeLeftovers(fileSystem: FileSystem, dir: string): void {
  for (const name of fileSystem.list(dir)) {
    const pid = Number(LEFTOVER.exec(name)?.[1] ?? Number.NaN);
    const isOver = pid === process.pid || processStart(pid) === '';
    if (!Number.isNaN(pid) && isOver) fileSystem.unlink(`${dir}/${name}`);
  }
}

/** Runs a step that a failing disk may refuse without harm. */
function tolerant(step: () => void): void {
  try {
    step();
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
  }
}

function tryLink(fileSystem: FileSystem, from: string, to: string): boolean {
  try {
    fileSystem.link(from, to);
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

function removeDeadOwner(fileSystem: FileSystem, dir: string, path: string): LockOwner | null {
  const text = readBytes(fileSystem, path);
  const owner = parseOwner(text);
  if (owner === null) return null;
  refuseUnlessDead(dir, path, owner);
  const aside = `${path}.stale-${process.pid}-${crypto.randomUUID()}`;
  try {
    fileSystem.rename(path, aside);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
  const moved = readBytes(fileSystem, aside);
  // Another starter took over between the read and the rename: its lock goes back.
  if (moved !== text) tryLink(fileSystem, aside, path);
  fileSystem.unlink(aside);
  return moved === text ? owner : null;
}

function refuseUnlessDead(dir: string, path: string, owner: LockOwner): void {
  const state = ownerState(owner);
  if (state === 'dead') return;
  const holder = `process ${owner.pid} on host ${owner.host} (since ${owner.startedAt})`;
  if (state === 'alive') {
    throw new WalLockedError(
      `WAL directory ${dir} is in use by ${holder}`,
      'stop that process, or use another directory',
    );
  }
  throw new WalLockedError(
    `WAL directory ${dir} is locked by ${holder}; whether it lives cannot be told from host ${os.hostname()}`,
    `when that host no longer uses the directory, remove ${path}`,
  );
}
