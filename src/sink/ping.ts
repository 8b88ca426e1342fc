import { errorCode } from '../io/file-system.ts';
import type { ClickHouseAddress } from './clickhouse-client.ts';
import { fetchOptions } from './fetch-options.ts';

/** `ok`: it answers. `refused`: nobody listens there. `silent`: no answer in time, or no right one. */
export type PingAnswer = 'ok' | 'refused' | 'silent';

/** Asks a server whether it is there; never throws. */
export async function pingServer(
  url: string,
  address: ClickHouseAddress,
  timeoutMs: number,
): Promise<PingAnswer> {
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    const response = await fetch(`${url}/ping`, { ...fetchOptions(address), signal });
    await response.text();
    return response.ok ? 'ok' : 'silent';
  } catch (error) {
    return /REFUSED/i.test(errorCode(error) ?? '') ? 'refused' : 'silent';
  }
}
