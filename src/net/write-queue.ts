// Bytes on their way to a socket that may take only a part of them.

/** The part of a socket that the queue needs; write returns the bytes taken, -1 where the peer is gone. */
export interface ByteTarget {
  write(bytes: Uint8Array): number;
}

export class WriteQueue {
  readonly #target: ByteTarget;
  #unwritten: Uint8Array[] = [];

  constructor(target: ByteTarget) {
    this.#target = target;
  }

  /** True where nothing waits. */
  get isEmpty(): boolean {
    return this.#unwritten.length === 0;
  }

  /** Writes `bytes`, after what waits already; they must not change until they are written. */
  write(bytes: Uint8Array): void {
    if (this.#unwritten.length > 0) {
      this.#unwritten.push(bytes);
      return;
    }
    const written = this.#target.write(bytes);
    // -1: the peer is gone, and what was for it with it.
    if (written >= 0 && written < bytes.byteLength) this.#unwritten.push(bytes.subarray(written));
  }

  /** Goes on writing: the socket has room again. */
  flush(): void {
    const waiting = this.#unwritten;
    this.#unwritten = [];
    for (const bytes of waiting) this.write(bytes);
  }

  /** Forgets what waits. */
  clear(): void {
    this.#unwritten = [];
  }
}
