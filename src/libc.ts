// Calls of libc that Bun has none for. Linux; elsewhere, and where libc has another name, callers do without.

import { dlopen, type FFIFunction } from 'bun:ffi';

/** The functions, bound to libc when they are first asked for; null where there is no such libc. */
export function lazyLibc<Functions extends Record<string, FFIFunction>>(functions: Functions) {
  let symbols: ReturnType<typeof bindLibc<Functions>> | undefined;
  return () => {
    if (symbols === undefined) symbols = bindLibc(functions);
    return symbols;
  };
}

function bindLibc<Functions extends Record<string, FFIFunction>>(functions: Functions) {
  if (process.platform !== 'linux') return null;
  try {
    return dlopen('libc.so.6', functions).symbols;
  } catch {
    return null;
  }
}
