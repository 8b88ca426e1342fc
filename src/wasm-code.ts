// The WebAssembly that generated readers and encoders are made of: its instructions as bytes, and a module of
// one function that works on a memory which it is given. Nothing here knows what is read or encoded.
//
// Why WebAssembly: 64-bit values are copied whole, whatever their bits and their alignment; and a function is
// compiled once, where JavaScript of this size was compiled, given up and compiled again for seconds.

/** Bytes in their order, as a tree: parts are not copied into the whole before the end. */
export type Code = readonly (number | Code)[];

const I32 = 0x7f;
const I64 = 0x7e;
const NO_RESULT = 0x40;
export const PAGE_SIZE_BYTES = 65_536;
/** What `copyWords` reads and writes past an end. */
export const OVERRUN_BYTES = 8;
/** From this many bytes on the engine's own copy is faster than a loop over words. */
const LONG_COPY_BYTES = 64;
/** Powers of two that cells of these widths in bytes are. */
export const SHIFTS = { 1: 0, 2: 1, 4: 2, 8: 3 } as const;

/** An unsigned LEB128 number. */
function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value % 0x80) | 0x80, ...unsigned(Math.floor(value / 0x80))];
}

/** A signed LEB128 number. */
function signed(value: bigint): number[] {
  const low = Number(value & 0x7fn);
  const rest = value >> 7n;
  const isLast = (rest === 0n && (low & 0x40) === 0) || (rest === -1n && (low & 0x40) !== 0);
  return isLast ? [low] : [low | 0x80, ...signed(rest)];
}

function flat(code: Code, bytes: number[] = []): number[] {
  for (const part of code) {
    if (typeof part === 'number') bytes.push(part);
    else flat(part, bytes);
  }
  return bytes;
}

const text = (value: string): Code => [unsigned(value.length), [...Buffer.from(value)]];
const list = (items: readonly Code[]): Code => [unsigned(items.length), items];
const sized = (content: readonly number[]): Code => [unsigned(content.length), content];
const section = (id: number, content: Code): Code => [id, sized(flat(content))];

/** Instructions. Loads and stores take the address first and may be unaligned. */
export const wasm = {
  get: (local: number): Code => [0x20, unsigned(local)],
  set: (local: number): Code => [0x21, unsigned(local)],
  tee: (local: number): Code => [0x22, unsigned(local)],
  const: (value: number): Code => [0x41, signed(BigInt(value | 0))],
  const64: (value: bigint): Code => [0x42, signed(BigInt.asIntN(64, value))],
  load: (offset = 0): Code => [0x28, 0, unsigned(offset)],
  load64: (offset = 0): Code => [0x29, 0, unsigned(offset)],
  load8: (offset = 0): Code => [0x2d, 0, unsigned(offset)],
  load16: (offset = 0): Code => [0x2f, 0, unsigned(offset)],
  store: (offset = 0): Code => [0x36, 0, unsigned(offset)],
  store64: (offset = 0): Code => [0x37, 0, unsigned(offset)],
  store8: (offset = 0): Code => [0x3a, 0, unsigned(offset)],
  store16: (offset = 0): Code => [0x3b, 0, unsigned(offset)],
  isZero: [0x45] as Code,
  isNotEqual: [0x47] as Code,
  isNotEqual64: [0x52] as Code,
  /** Of unsigned numbers, as isGreater and isNotLess. */
  isLess: [0x49] as Code,
  isGreater: [0x4b] as Code,
  isNotLess: [0x4f] as Code,
  isLessSigned: [0x48] as Code,
  isGreaterSigned: [0x4a] as Code,
  add: [0x6a] as Code,
  subtract: [0x6b] as Code,
  or: [0x72] as Code,
  shiftLeft: [0x74] as Code,
  shiftRight: [0x76] as Code,
  shiftRightSigned: [0x75] as Code,
  add64: [0x7c] as Code,
  /** Target, source, length are on the stack. */
  copy: [0xfc, 10, 0, 0] as Code,
  if: (then: Code, otherwise: Code = []): Code => [
    [0x04, NO_RESULT, then],
    otherwise.length === 0 ? [] : [0x05, otherwise],
    0x0b,
  ],
  /** Code that `break` leaves at its end. */
  block: (body: Code): Code => [0x02, NO_RESULT, body, 0x0b],
  /** Code that `break` begins anew. */
  loop: (body: Code): Code => [0x03, NO_RESULT, body, 0x0b],
  /** Leaves the block, or begins the loop, that is so many levels out. */
  break: (levels: number): Code => [0x0c, unsigned(levels)],
  breakIf: (levels: number): Code => [0x0d, unsigned(levels)],
  /** Runs `body` again and again until `condition`, which comes first, leaves zero. */
  while: (condition: Code, body: Code): Code => [
    [0x02, NO_RESULT, 0x03, NO_RESULT],
    [condition, 0x45, 0x0d, 1],
    [body, 0x0c, 0, 0x0b, 0x0b],
  ],
};

/**
 * Copies bytes by words, from `offset` behind what local `source` holds to local `target`, up to `end`, which
 * `target` holds afterwards; what `source` holds then is of no use.
 */
export function copyWords(target: number, source: number, end: number, offset = 0): Code {
  const { get, set } = wasm;
  const sizeBytes = [get(end), get(target), wasm.subtract];
  const advance = (local: number) => [get(local), wasm.const(8), wasm.add, set(local)];
  const word = [get(target), get(source), wasm.load64(offset), wasm.store64()];
  return [
    [sizeBytes, wasm.const(LONG_COPY_BYTES), wasm.isGreater],
    wasm.if(
      [get(target), get(source), wasm.const(offset), wasm.add, sizeBytes, wasm.copy],
      wasm.while([get(target), get(end), wasm.isLess], [word, advance(target), advance(source)]),
    ),
    [get(end), set(target)],
  ];
}

/** Locals of a function; its parameters, all i32, come first. */
export class Locals {
  readonly #parameterCount: number;
  readonly #types: number[] = [];

  constructor(parameterCount: number) {
    this.#parameterCount = parameterCount;
  }

  i32(): number {
    return this.#add(I32);
  }

  i64(): number {
    return this.#add(I64);
  }

  #add(type: number): number {
    return this.#parameterCount + this.#types.push(type) - 1;
  }

  /** Module with one function `run` of these locals, which leaves one i32; it imports `memory`. */
  module(body: Code): WebAssembly.Module {
    const parameters = Array.from({ length: this.#parameterCount }, () => [I32]);
    const locals = this.#types.map((type) => [1, type]);
    const module = [
      [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      section(1, list([[0x60, list(parameters), list([[I32]])]])),
      section(2, list([[text('from'), text('memory'), 2, 0, 1]])),
      section(3, list([[0]])),
      section(7, list([[text('run'), 0, 0]])),
      section(10, list([sized(flat([list(locals), body, 0x0b]))])),
    ];
    return new WebAssembly.Module(Uint8Array.from(flat(module)));
  }
}

/** A memory that several functions of a thread work in, one after another: nothing stays in it. */
export class WasmMemory {
  #memory = new WebAssembly.Memory({ initial: 1 });
  readonly #keptSizeBytes: number;

  /** @param keptSizeBytes a larger memory is given back when `release` is called */
  constructor(keptSizeBytes: number) {
    this.#keptSizeBytes = keptSizeBytes;
  }

  /** What instances work in: another one after `release`, perhaps. */
  get current(): WebAssembly.Memory {
    return this.#memory;
  }

  /** All bytes, at least so many; valid until the next call. */
  bytes(sizeBytes: number): Uint8Array<ArrayBuffer> {
    const missing = sizeBytes - this.#memory.buffer.byteLength;
    if (missing > 0) this.#memory.grow(Math.ceil(missing / PAGE_SIZE_BYTES));
    return new Uint8Array(this.#memory.buffer as ArrayBuffer);
  }

  release(): void {
    if (this.#memory.buffer.byteLength <= this.#keptSizeBytes) return;
    this.#memory = new WebAssembly.Memory({ initial: 1 });
  }
}

type Run = (...parameters: number[]) => number;

/** Calls the function of a module in a memory. */
export class WasmFunction {
  readonly #module: WebAssembly.Module;
  #memory: WebAssembly.Memory | null = null;
  #run: Run = () => 0;

  constructor(module: WebAssembly.Module) {
    this.#module = module;
  }

  call(memory: WebAssembly.Memory, ...parameters: number[]): number {
    if (memory !== this.#memory) {
      const { exports } = new WebAssembly.Instance(this.#module, { from: { memory } });
      this.#run = exports['run'] as Run;
      this.#memory = memory;
    }
    return this.#run(...parameters);
  }
}
