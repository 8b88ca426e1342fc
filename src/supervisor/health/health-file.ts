// `<walDir>/health.json`: losses that nobody has acknowledged, so that a restart does not hide them.

import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { errorCode } from '../../io/file-system.ts';
import type { Condition } from './health.ts';

export const HEALTH_FILE = 'health.json';

/** Losses of earlier runs; none when there is no file, or none that can be read. */
export function readLosses(walDir: string): Condition[] {
  try {
    const { losses } = JSON.parse(readFileSync(`${walDir}/${HEALTH_FILE}`, 'utf8')) as { losses?: unknown };
    return Array.isArray(losses) ? (losses as Condition[]).filter(isCondition) : [];
  } catch (error) {
    if (error instanceof SyntaxError || errorCode(error) !== undefined) return [];
    throw error;
  }
}

/** Replaces the file; false where the disk does not take it. Not synced: it is a hint for people. */
export function writeLosses(walDir: string, losses: readonly Condition[]): boolean {
  const path = `${walDir}/${HEALTH_FILE}`;
  try {
    writeFileSync(`${path}.new`, JSON.stringify({ losses }, null, 1));
    renameSync(`${path}.new`, path);
    return true;
  } catch (error) {
    if (errorCode(error) !== undefined) return false;
    throw error;
  }
}

function isCondition(value: Partial<Condition> | null): value is Condition {
  const texts = [value?.tag, value?.subject, value?.message, value?.command];
  return texts.every((text) => typeof text === 'string') && typeof value?.count === 'number';
}
