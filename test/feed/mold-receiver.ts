import { requestReceiveBuffer } from '../../src/net/socket-options.ts';

/** A MoldUDP64 receiver written from the protocol's description alone; for tests of senders. */
export interface MoldReceiver {
  port: number;
  sessions: Set<string>;
  seqs: Set<number>;
  /** An end of session has come. */
  ended: boolean;
  close(): void;
}

/** Binds a free port on 127.0.0.1. */
export async function connectMold(): Promise<MoldReceiver> {
  const receiver: MoldReceiver = {
    port: 0,
    sessions: new Set(),
    seqs: new Set(),
    ended: false,
    close: () => socket.close(),
  };
  const socket = await Bun.udpSocket({
    hostname: '127.0.0.1',
    socket: {
      data(_, datagram) {
        receiver.sessions.add(datagram.toString('latin1', 0, 10).trimEnd());
        const first = Number(datagram.readBigUInt64BE(10));
        const count = datagram.readUInt16BE(18);
        if (count === 0xffff) receiver.ended = true;
        else for (let i = 0; i < count; i++) receiver.seqs.add(first + i);
      },
    },
  });
  // The default of some 200 KiB is less than a test sends while this process is held up: a loss nobody meant.
  requestReceiveBuffer((socket as unknown as { fd: number }).fd, 8 * 1024 * 1024);
  receiver.port = socket.port;
  return receiver;
}
