// Receives on a Unix socket and drops: the limit of everything that is received through Bun's sockets.
// Argument: the socket's path. Says `ready`; runs until it is killed.

let bytes = 0;

Bun.listen({
  unix: process.argv[2]!,
  allowHalfOpen: true,
  socket: {
    data(_socket, chunk) {
      bytes += chunk.length;
    },
    end(socket) {
      process.stdout.write(`${bytes}\n`);
      bytes = 0;
      socket.end();
    },
  },
});
process.stdout.write('ready\n');
