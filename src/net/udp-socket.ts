// A UDP socket to receive on: unicast, or joined to a multicast group; its receive buffer and the kernel's
// drops.
//
// Bun binds the socket and joins the group. Reading is ours: Bun's UDP socket reads until the socket is
// empty, however long that takes, and makes a buffer and an address of each datagram. So the socket goes on
// under a descriptor of our own, which Bun watches as if it were a stream: of that it reads one datagram and
// gives way. We read the others, many in a call, for a while; what is left then is told of again.
//
// Invariants
// - Datagrams are handed on in the order in which the socket gives them.
// - In a turn of the event loop a line reads for TURN_MS, and what its last read gave, whatever comes.
// - An empty datagram, which looks to Bun like a stream's end, ends nothing; nor does an ICMP error.

import type { FdSocketOptions, Socket, UnixSocketOptions, udp } from 'bun';
import { RecorderError } from '../errors.ts';
import { DatagramSlots } from './datagram-slots.ts';
import { socketHandlers } from './socket-handlers.ts';
import {
  closeDescriptor,
  descriptorOf,
  duplicateDescriptor,
  hasSocketCalls,
  ignoreIcmpErrors,
  kernelDrops,
  requestReceiveBuffer,
} from './socket-options.ts';
import { lineAddress, type UdpLine } from './udp-endpoint.ts';

export const DEFAULT_RECEIVE_BUFFER_BYTES = 32 * 1024 * 1024;
/** So long a line reads before others on the event loop have their turn. */
const TURN_MS = 2;
/** Where the system does not let the socket be watched any more, it is asked again after so long. */
const WATCH_AGAIN_MS = 100;
const EMPTY = new Uint8Array(0);
/**
 * SO_REUSEADDR, as node:dgram passes it to Bun: other programs of this host may listen to the same group.
 * Bun's types do not show it.
 */
const REUSE_ADDRESS_FLAG = 16;

/** Takes bytes[start, end), one datagram, valid during the call. `view` covers the same memory as `bytes`. */
export type DatagramHandler = (bytes: Uint8Array, view: DataView, start: number, end: number) => void;

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
 * Binds a line and joins its group. Errors (RecorderError): udp_bind_failed, udp_join_failed,
 * udp_watch_failed.
 */
export async function openUdpReceiver(
  line: UdpLine,
  receiveBufferBytes: number,
  onDatagram: DatagramHandler,
): Promise<UdpReceiver> {
  const bound = await bind(line, onDatagram);
  const { port } = bound;
  const address = lineAddress(line.host, port);
  try {
    join(bound, line);
  } catch (cause) {
    bound.close();
    throw new RecorderError('udp_join_failed', `cannot join multicast group ${address}`, {
      cause,
      hint: 'interface= takes the address of a network interface of this host',
    });
  }
  const granted = requestReceiveBuffer(descriptorOf(bound), receiveBufferBytes);
  const { fd, close } = await takeOver(bound, address, onDatagram);
  let closed = false;
  let dropsAtClose: number | null = null;
  return {
    address,
    port,
    receiveBufferBytes: granted,
    kernelDrops: () => (closed ? dropsAtClose : kernelDrops(fd)),
    close() {
      if (closed) return;
      closed = true;
      dropsAtClose = kernelDrops(fd);
      close();
    },
  };
}

/** Has the socket read by a descriptor of our own; where there is no libc to read with, by Bun. */
async function takeOver(
  bound: BoundSocket,
  address: string,
  onDatagram: DatagramHandler,
): Promise<{ fd: number; close(): void }> {
  const bunsFd = descriptorOf(bound);
  if (!hasSocketCalls()) return { fd: bunsFd, close: () => bound.close() };
  // Bun has asked for these errors, and takes them from a UDP socket alone: on what it holds for a stream
  // they would stay, wake it for ever and fill the receive buffer.
  ignoreIcmpErrors(bunsFd);
  let reader: DatagramReader | null = null;
  try {
    const fd = duplicateDescriptor(bunsFd);
    reader = new DatagramReader(fd, onDatagram);
    bound.close();
    await reader.watch();
    return { fd, close: () => reader!.close() };
  } catch (cause) {
    bound.close();
    reader?.close();
    throw new RecorderError('udp_watch_failed', `cannot wait for datagrams on ${address}`, { cause });
  }
}

/** Memory to read into, for all lines: they read one after another. */
let slots: DatagramSlots | null = null;

/** Reads a socket by a descriptor of its own, which it owns. */
class DatagramReader {
  readonly #fd: number;
  readonly #onDatagram: DatagramHandler;
  readonly #slots: DatagramSlots;
  #watched: Socket | null = null;
  #again: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(fd: number, onDatagram: DatagramHandler) {
    this.#fd = fd;
    this.#onDatagram = onDatagram;
    slots ??= new DatagramSlots();
    this.#slots = slots;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#again);
    this.#watched?.terminate();
    closeDescriptor(this.#fd);
  }

  /** Has Bun tell of datagrams. Rejects with the system's error where it does not allow it. */
  async watch(): Promise<void> {
    const fd = duplicateDescriptor(this.#fd);
    let isWatched = false;
    let isAtEnd = false;
    const options: FdSocketOptions = {
      fd,
      socket: socketHandlers({
        binaryType: 'uint8array' as const,
        open: (socket: Socket) => {
          isWatched = true;
          this.#watched = socket;
          if (this.#closed) socket.terminate();
        },
        data: (_socket: Socket, bytes: Uint8Array) => this.#read(bytes),
        // What Bun has read is an empty datagram.
        end: () => {
          isAtEnd = true;
          this.#read(EMPTY);
        },
        close: () => this.#watchAgain(isAtEnd ? 0 : WATCH_AGAIN_MS),
      }),
    };
    try {
      // Bun's types have these options, and no connect() that takes them.
      await Bun.connect(options as unknown as UnixSocketOptions);
    } catch (error) {
      if (!isWatched) closeDescriptor(fd);
      throw error;
    }
  }

  #watchAgain(afterMs: number): void {
    if (this.#closed) return;
    this.#again = setTimeout(() => this.watch().catch(() => this.#watchAgain(WATCH_AGAIN_MS)), afterMs);
  }

  /** Takes the datagram that Bun has read, then what else is there. */
  #read(first: Uint8Array): void {
    if (this.#closed) return;
    handOn(first, this.#onDatagram);
    const batch = this.#slots;
    const until = performance.now() + TURN_MS;
    while (!this.#closed) {
      const count = batch.receive(this.#fd);
      for (let i = 0; i < count && !this.#closed; i++) {
        this.#onDatagram(batch.bytes, batch.view, batch.startOf(i), batch.endOf(i));
      }
      if (count < batch.capacity || performance.now() >= until) return;
    }
  }
}

function handOn(bytes: Uint8Array, onDatagram: DatagramHandler): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  onDatagram(bytes, view, 0, bytes.byteLength);
}

type BoundSocket = udp.Socket<'uint8array'>;

async function bind(line: UdpLine, onDatagram: DatagramHandler): Promise<BoundSocket> {
  const options = {
    // Bound to the group's own address, the socket gets nothing that was sent to the port alone.
    hostname: line.host,
    port: line.port,
    binaryType: 'uint8array' as const,
    flags: line.multicast ? REUSE_ADDRESS_FLAG : 0,
    // What comes before the socket is ours, or all.
    socket: socketHandlers({
      data: (_socket: unknown, bytes: Uint8Array) => handOn(bytes, onDatagram),
    }),
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
