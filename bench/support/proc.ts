// What /proc says of a process: CPU time and memory.

import { readdirSync, readFileSync } from 'node:fs';

/** Unit of the times in /proc/PID/stat, on every Linux that Bun runs on. */
const NS_PER_TICK = 1e9 / 100;
const KIB = 1024;

/** CPU time since the process began, ns. */
export interface CpuTimes {
  userNs: number;
  systemNs: number;
  /** Of the main thread alone, user and system. */
  mainThreadNs: number;
}

/** CPU time of a process and of its ended threads; `userNs` and `systemNs` in steps of 10 ms. */
export function cpuTimes(pid: number): CpuTimes {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name, in parentheses, may hold blanks; user and system time are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return {
    userNs: Number(fields[11]) * NS_PER_TICK,
    systemNs: Number(fields[12]) * NS_PER_TICK,
    mainThreadNs: threadNs(pid, pid),
  };
}

/** What was spent between two readings. */
export function cpuBetween(before: CpuTimes, after: CpuTimes): CpuTimes {
  return {
    userNs: after.userNs - before.userNs,
    systemNs: after.systemNs - before.systemNs,
    mainThreadNs: after.mainThreadNs - before.mainThreadNs,
  };
}

/** CPU time of all living threads, ns, exact to the scheduler's clock. */
export function threadsNs(pid: number): number {
  return readdirSync(`/proc/${pid}/task`).reduce((sum, tid) => sum + threadNs(pid, Number(tid)), 0);
}

function threadNs(pid: number, tid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'utf8').split(' ')[0]);
  } catch {
    return 0; // the thread has just ended
  }
}

/** Resident memory now, and the most since the process began; bytes, 0 where it has ended. */
export function residentBytes(pid: number): { now: number; peak: number } {
  const status = statusOf(pid);
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0);
  return { now: field('VmRSS') * KIB, peak: field('VmHWM') * KIB };
}

function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return '';
  }
}
