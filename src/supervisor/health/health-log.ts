// Changes of the health as log lines, one each. Losses that go on are summed up.

import type { Logger } from '../../log.ts';
import type { HealthChange } from './health.ts';

/** Time between lines about a loss that goes on. */
const REPEAT_MS = 10_000;

/** Returns a function that logs changes. */
export function createHealthLog(logger: Logger): (change: HealthChange) => void {
  const loggedMs = new Map<string, number>();
  return (change) => {
    const { kind, atMs, from, to, condition } = change;
    const { tag, subject, state, message, command, count } = condition;
    const key = `${tag}/${subject}`;
    if (kind === 'more' && atMs - (loggedMs.get(key) ?? 0) < REPEAT_MS) return;
    loggedMs.set(key, atMs);
    const fields = { tag, ...(subject === '' ? {} : { subject }), health: to };
    const whole = from === to ? `health stays ${to}` : `health ${from} → ${to}`;
    switch (kind) {
      case 'cleared':
        logger.info(fields, `${whole}: over: ${message}`);
        return;
      case 'acknowledged':
        logger.info(fields, `${whole}: acknowledged: ${message} (${count} so far)`);
        return;
      default: {
        const lost = state === 'data_loss' ? `data_loss: ${count} lost: ` : '';
        const text = `${whole}: ${lost}${message}; next: ${command}`;
        if (state === 'degraded') logger.warn(fields, text);
        else logger.error(fields, text);
      }
    }
  };
}
