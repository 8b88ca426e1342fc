// A UDP socket to receive on: unicast, or joined to a multicast group; its receive buffer and the kernel's
// drops.
//
// Bun.udpSocket and node:dgram measured alike (370,000 and 380,000 datagrams of 1,400 bytes a CPU second,
// Bun 1.4.5); Bun's is used because it shows its descriptor, which SO_RCVBUFFORCE needs: dgram's buffer
// stops at rmem_max. With 32 MiB a burst of 400,000 datagrams at 340,000/s lost none, with rmem_max's 4 MiB
// 2,400.

import type { udp } from 'bun';
import { RecorderError } from '../errors.ts';
import { kernelDrops, requestReceiveBuffer } from './socket-options.ts';
import { lineAddress, type UdpLine } from './udp-endpoint.ts';

export const DEFAULT_RECEIVE_BUFFER_BYTES = 32 * 1024 * 1024;
/**
 * SO_REUSEADDR, as node:dgram passes it to Bun: other programs of this host may listen to the same group.
 * Bun's types do not show it.
 */
const REUSE_ADDRESS_FLAG = 16;

export interface UdpReceiver {
  /** host:port it is bound to, with the port that the system chose where 0 was asked for */
  readonly address: string;
  readonly port: number;
  /** Receive buffer granted, null where the system does not say */
  readonly receiveBufferBytes: number | null;
  /** Datagrams dropped by the kernel since the start, null where the system does not say */
  kernelDrops(): number | null;
  close(): void;
}

/**
 * Binds a line and joins its group. Each datagram is a buffer of its own, not reused. Errors (RecorderError):
 * udp_bind_failed, udp_join_failed.
 */
export async function openUdpReceiver(
  line: UdpLine,
  receiveBufferBytes: number,
  onDatagram: (bytes: Uint8Array) => void,
): Promise<UdpReceiver> {
  const socket = await bind(line, onDatagram);
  const address = lineAddress(line.host, socket.port);
  try {
    join(socket, line);
  } catch (cause) {
    socket.close();
    throw new RecorderError('udp_join_failed', `cannot join multicast group ${address}`, {
      cause,
      hint: 'interface= takes the address of a network interface of this host',
    });
  }
  const fd = (socket as unknown as { fd: number }).fd;
  const granted = requestReceiveBuffer(fd, receiveBufferBytes);
  let dropsAtClose: number | null = null;
  return {
    address,
    port: socket.port,
    receiveBufferBytes: granted,
    kernelDrops: () => (socket.closed ? dropsAtClose : kernelDrops(fd)),
    close() {
      if (socket.closed) return;
      dropsAtClose = kernelDrops(fd);
      socket.close();
    },
  };
}

type BoundSocket = udp.Socket<'uint8array'>;

async function bind(line: UdpLine, onDatagram: (bytes: Uint8Array) => void): Promise<BoundSocket> {
  const options = {
    // Bound to the group's own address, the socket gets nothing that was sent to the port alone.
    hostname: line.host,
    port: line.port,
    binaryType: 'uint8array' as const,
    flags: line.multicast ? REUSE_ADDRESS_FLAG : 0,
    socket: {
      data: (_socket: unknown, bytes: Uint8Array) => onDatagram(bytes),
      // Errors of a receiving socket (an ICMP answer to nothing we sent) concern no datagram.
      error: () => {},
    },
  };
  try {
    return await Bun.udpSocket<'uint8array'>(options);
  } catch (cause) {
    throw new RecorderError('udp_bind_failed', `cannot receive UDP on ${lineAddress(line.host, line.port)}`, {
      cause,
    });
  }
}

function join(socket: BoundSocket, line: UdpLine): void {
  if (!line.multicast) return;
  if (line.source === undefined) socket.addMembership(line.host, line.interface);
  else socket.addSourceSpecificMembership(line.source, line.host, line.interface);
}
