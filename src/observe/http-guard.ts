// Who may speak to the HTTP server. Pure.

import { createHash, timingSafeEqual } from 'node:crypto';

/** Whether an address to listen on can be reached from this host alone. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(?:\.\d{1,3}){3}$/.test(host);
}

/**
 * Whether a Host header may be answered without a token: addresses and localhost. A name of somebody's
 * domain that resolves to 127.0.0.1 is how a web page would reach a local server (DNS rebinding).
 */
export function isAllowedHost(header: string): boolean {
  const host = header.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return isLoopback(host);
}

/** Whether an Authorization header is `Bearer TOKEN`, or `Basic` with the token as password. */
export function presentsToken(authorization: string | null, token: string): boolean {
  const [scheme = '', credentials = ''] = (authorization ?? '').split(' ', 2);
  if (/^bearer$/i.test(scheme)) return equalSecrets(credentials, token);
  if (/^basic$/i.test(scheme)) {
    const pair = Buffer.from(credentials, 'base64').toString('utf8');
    return equalSecrets(pair.slice(pair.indexOf(':') + 1), token);
  }
  return false;
}

/** Compares in a time that tells neither where the texts differ nor how long the secret is. */
export function equalSecrets(given: string, secret: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(secret));
}
