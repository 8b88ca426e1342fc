// The HTTP server of a recorder or a loader.

import type { Config } from '../../config.ts';
import { describeError, RecorderError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import {
  type HttpServer,
  parseHttpAddress,
  type Routes,
  startHttpServer,
} from '../../observe/http-server.ts';

/**
 * Opens the server at the address of the setting `name`, with the token of the moment; null where there is
 * none. A default port that is in use is a warning: it was nobody's wish.
 * @throws RecorderError where the address was given and does not work
 */
export function openWatchServer(
  configOf: () => Config,
  name: 'http' | 'loaderHttp',
  routes: Routes,
  logger: Logger,
): HttpServer | null {
  const config = configOf();
  const address = config[name];
  if (address === '') return null;
  try {
    const { host, port } = parseHttpAddress(address);
    const onError = (error: unknown) => logger.error(`HTTP: ${describeError(error)}`);
    const server = startHttpServer({ host, port, token: () => configOf().httpToken, routes, onError });
    logger.info(`metrics and health on ${server.url}`);
    return server;
  } catch (error) {
    const isInUse = error instanceof RecorderError && error.code === 'http_port_in_use';
    if (!isInUse || config.origins[name] !== 'default') throw error;
    logger.warn(`no HTTP server: ${describeError(error)}`);
    return null;
  }
}
