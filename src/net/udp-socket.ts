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
// - A turn of the event loop ends after TURN_MS, whatever comes; nothing is lost by that but time.
// - An empty datagram, which looks to Bun like a stream's end, ends nothing.

import type { FdSocketOptions, Socket, UnixSocketOptions, udp } from 'bun';
import { RecorderError } from '../errors.ts';
import { DatagramSlots } from './datagram-slots.ts';
import { closeDescriptor, duplicateDescriptor, kernelDrops, requestReceiveBuffer } from './socket-options.ts';
import { lineAddress, type UdpLine } from './udp-endpoint.ts';

export const DEFAULT_RECEIVE_BUFFER_BYTES = 32 * 1024 * 1024;
/** So long a line reads before others on the event loop have their turn. */
const TURN_MS = 2;
/** Where the system has no descriptor or no watch for it, it is asked again after so long. */
const WATCH_AGAIN_MS = 100;
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

/** Binds a line and joins its group. Errors (RecorderError): udp_bind_failed, udp_join_failed. */
export async function openUdpReceiver(
  line: UdpLine,
  receiveBufferBytes: number,
  onDatagram: DatagramHandler,
): Promise<UdpReceiver> {
  const socket = await bind(line, onDatagram);
  const { port } = socket;
  const address = lineAddress(line.host, port);
  try {
    join(socket, line);
  } catch (cause) {
    socket.close();
    throw new RecorderError('udp_join_failed', `cannot join multicast group ${address}`, {
      cause,
      hint: 'interface= takes the address of a network interface of this host',
    });
  }
  const { fd: bunsFd } = socket as unknown as { fd: number };
  const granted = requestReceiveBuffer(bunsFd, receiveBufferBytes);
  const own = duplicateDescriptor(bunsFd);
  const reader = own === null ? socket : new DatagramReader(own, onDatagram);
  const fd = own ?? bunsFd;
  if (own !== null) socket.close();
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
      reader.close();
    },
  };
}

/** Memory to read into, for all lines: they read one after another. */
let sharedSlots: DatagramSlots | null = null;

/** Reads a socket by a descriptor of its own, which it owns. */
class DatagramReader {
  readonly #fd: number;
  readonly #onDatagram: DatagramHandler;
  readonly #slots: DatagramSlots;
  #watched: Socket | null = null;
  #closed = false;

  constructor(fd: number, onDatagram: DatagramHandler) {
    this.#fd = fd;
    this.#onDatagram = onDatagram;
    sharedSlots ??= new DatagramSlots();
    this.#slots = sharedSlots;
    this.#watch();
  }

  close(): void {
    this.#closed = true;
    this.#watched?.terminate();
    closeDescriptor(this.#fd);
  }

  /** Has Bun tell of datagrams, until it takes an empty one for the end. */
  #watch(): void {
    if (this.#closed) return;
    const watchAgain = () => void setTimeout(() => this.#watch(), WATCH_AGAIN_MS);
    const fd = duplicateDescriptor(this.#fd);
    if (fd === null) {
      watchAgain();
      return;
    }
    const options: FdSocketOptions = {
      fd,
      socket: {
        binaryType: 'uint8array',
        open: (socket) => {
          this.#watched = socket;
          if (this.#closed) socket.terminate();
        },
        data: (_socket, bytes: Uint8Array) => this.#read(bytes),
        end: () => this.#read(new Uint8Array(0)),
        close: () => this.#watch(),
        // Errors of a receiving socket (an ICMP answer to nothing we sent) concern no datagram.
        error: () => {},
      },
    };
    // Bun's types have these options, and no connect() that takes them.
    Bun.connect(options as unknown as UnixSocketOptions).catch(watchAgain);
  }

  /** Takes the datagram that Bun has read, then what else is there. */
  #read(first: Uint8Array): void {
    if (this.#closed) return;
    handOn(first, this.#onDatagram);
    const slots = this.#slots;
    const until = performance.now() + TURN_MS;
    do {
      const count = slots.receive(this.#fd);
      for (let i = 0; i < count && !this.#closed; i++) {
        this.#onDatagram(slots.bytes, slots.view, slots.startOf(i), slots.endOf(i));
      }
      if (count < DatagramSlots.count) return;
    } while (!this.#closed && performance.now() < until);
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
    socket: {
      // What comes before the socket is ours, or all where there is no libc to read it with.
      data: (_socket: unknown, bytes: Uint8Array) => handOn(bytes, onDatagram),
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
