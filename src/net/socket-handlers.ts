// What a socket's handler throws, Bun hands to the same socket's `error`, where the network's errors come
// too: a fault of this program would end there, unheard, and what the handler had in hand with it. So it is
// thrown again where nobody catches it, and ends the process.

type Handler = (...values: never[]) => unknown;

/**
 * Handlers for a socket. The network's errors are passed over: those of a connection show in its `close`,
 * those of a receiving UDP socket (an ICMP answer to nothing we sent) concern no datagram.
 */
export function socketHandlers<Handlers extends object>(handlers: Handlers): Handlers & { error(): void } {
  const outspoken = Object.entries(handlers).map(([name, handler]) => [
    name,
    typeof handler === 'function' ? throwingOutside(handler as Handler) : handler,
  ]);
  return { ...(Object.fromEntries(outspoken) as Handlers), error: () => {} };
}

function throwingOutside<Values extends never[]>(handler: (...values: Values) => unknown) {
  return (...values: Values): void => {
    try {
      handler(...values);
    } catch (fault) {
      queueMicrotask(() => {
        throw fault;
      });
    }
  };
}
