// One random history: producers send, the recorder is killed and started, the power fails, the disk fills and
// fails, the server refuses, hangs and goes away; in the end all is well again, and everything that was
// acknowledged must be at the server once.

import type { Flusher } from '../../src/sink/flusher.ts';
import type { FlusherEvent } from '../../src/sink/flusher-types.ts';
import type { SyncPolicy } from '../../src/wal/settings.ts';
import { verifyWal } from '../../src/wal/verify.ts';
import { MemoryFileSystem, type Operation } from '../support/memory-file-system.ts';
import { type SeededRandom, seededRandom } from '../support/random.ts';
import { ModelFeed } from './model-feed.ts';
import { ModelProducer } from './model-producer.ts';
import { ModelServer } from './model-server.ts';
import { Oracle } from './oracle.ts';
import {
  DIR,
  type ModelSettings,
  noSeams,
  openRecorder,
  type RunningRecorder,
  type Seams,
  startFlusher,
  usualSettings,
} from './process.ts';
import { modelTopics } from './topics.ts';
import { EndedError, VirtualTime } from './virtual-time.ts';

const MAX_STEPS = 30;
/** Virtual time within which everything is well again. */
const HEALING_MS = 30_000;

export const FIRST_BACKGROUND_SEED = 0x8000_0000;

type DiskState = 'well' | 'full' | 'sync fails' | 'read fails' | 'failing';

export interface HistoryOptions {
  seams?: Seams;
  /** Tells what happens, for a look at a failing history. */
  trace?: (text: string) => void;
  walSync?: SyncPolicy;
  /** Retention runs far more often than else, and the power fails after it. */
  retainsOften?: boolean;
}

export class History {
  readonly #random: SeededRandom;
  readonly #time = new VirtualTime();
  readonly #producers: ModelProducer[];
  readonly #server: ModelServer;
  readonly #oracle: Oracle;
  readonly #seams: Seams;
  readonly #trace: (text: string) => void;
  readonly #settings: ModelSettings;
  readonly #feed: ModelFeed | null;
  /** What delivers is a process of its own. */
  readonly #isLoader: boolean;
  readonly #retainsOften: boolean;
  /** Records of this size are written by another thread. */
  readonly #backgroundBytes: number;
  #disk = new MemoryFileSystem();
  #diskState: DiskState = 'well';
  /** Failed operations explain why something stopped since its start. */
  #diskFailed = false;
  #diskFailedFlusher = false;
  #recorder: RunningRecorder | null = null;
  #flusher: Flusher | null = null;
  #flusherFailed = false;
  #failure: Error | null = null;
  /** The log was opened by a recorder since it was made, or since the power failed. */
  #isRecovered = false;
  #lives = 0;
  #loaderLives = 0;

  /** From FIRST_BACKGROUND_SEED on another thread writes records. */
  constructor(seed: number, options: HistoryOptions = {}) {
    const random = seededRandom('history', seed);
    this.#random = random;
    const isBackground = seed >= FIRST_BACKGROUND_SEED;
    this.#backgroundBytes = isBackground ? random.pick([1, 350, 500]) : Number.POSITIVE_INFINITY;
    this.#seams = options.seams ?? noSeams;
    this.#trace = options.trace ?? (() => {});
    const policy = random.int(0, 99);
    this.#settings = {
      walSync: options.walSync ?? (policy < 86 ? 'group' : policy < 93 ? 'interval' : 'none'),
      segmentSizeBytes: random.pick([6144, 8192, 8192, 16384]),
      quarantineMaxBytes: random.pick([400, usualSettings.quarantineMaxBytes]),
      format: random.pick(['RowBinary', 'Native']),
      // With padding, or through the page cache.
      mode: this.#backgroundBytes === 350 ? 'direct' : 'wal_first',
    };
    this.#feed = random.int(0, 1) === 0 ? new ModelFeed(random) : null;
    this.#retainsOften = options.retainsOften ?? false;
    this.#isLoader = random.int(0, 2) === 0;
    this.#producers = ['a', 'b'].map((source) => new ModelProducer(source, random));
    this.#server = new ModelServer(modelTopics, random.int(0, 3) > 0, this.#time, random);
    this.#oracle = new Oracle(this.#producers, this.#feed);
    this.#server.onStored = (row) => this.#guarded(() => this.#oracle.stored(row));
    this.#adopt(this.#disk);
    const tokens = this.#server.hasTokens ? 'with' : 'without';
    this.#trace(`records from ${this.#backgroundBytes} bytes on are written by another thread`);
    this.#trace(`${show(this.#settings)}, ${this.#isLoader ? 'a loader' : 'direct'}, ${tokens} tokens`);
  }

  /** Runs it all. Throws what went wrong. */
  async run(): Promise<void> {
    this.#time.install();
    try {
      const steps = this.#random.int(8, MAX_STEPS);
      for (let step = 0; step < steps; step++) {
        await this.#step();
        this.#check();
      }
      await this.#heal();
      this.#check();
      this.#oracle.finish(this.#disk);
      if (this.#random.int(0, 3) === 0) this.#verify();
    } finally {
      this.#time.uninstall();
    }
  }

  async #step(): Promise<void> {
    const random = this.#random;
    if (this.#recorder === null && random.int(0, 2) > 0) await this.#start();
    const action = this.#retainsOften && random.int(0, 3) === 0 ? 75 : random.int(0, 99);
    if (this.#feed !== null && random.int(0, 3) === 0) await this.#sendDatagrams(this.#feed);
    if (action < 38) await this.#send();
    else if (action < 56) await this.#advance(random.int(0, 6));
    else if (action < 70) await this.#advance(random.int(20, 90));
    else if (action < 73) await this.#disconnect();
    else if (action < 80) await this.#retain();
    else if (action < 84) this.#changeDisk();
    else if (action < 88) this.#changeWeather();
    else if (action < 91) this.#killRecorder();
    else if (action < 93) this.#killFlusher();
    else if (action < 95) await this.#stop();
    else if (action < 97) this.#powerLoss();
    else await this.#restartFlusher();
  }

  async #send(): Promise<void> {
    const producer = this.#random.pick(this.#producers);
    producer.make(this.#random.int(1, 7));
    this.#trace(`${producer.source} has ${producer.frames.length} frames`);
    const recorder = this.#recorder;
    if (recorder === null) return;
    await this.#time.run(this.#owner, () =>
      this.#guarded(() => {
        if (producer.connection === null) producer.connect(recorder.shared);
        producer.send(false);
      }),
    );
  }

  async #sendDatagrams(feed: ModelFeed): Promise<void> {
    feed.make(this.#random.int(1, 9));
    this.#trace(`the feed has ${feed.frames.length} frames`);
    await this.#time.run(this.#owner, () =>
      this.#guarded(() => feed.send(this.#recorder?.sequencer ?? null)),
    );
  }

  async #advance(ms: number): Promise<void> {
    this.#trace(`${ms} ms pass`);
    await this.#time.advance(ms);
  }

  async #disconnect(): Promise<void> {
    const producer = this.#random.pick(this.#producers);
    await this.#time.run(this.#owner, () => producer.disconnect(this.#recorder !== null));
  }

  async #retain(): Promise<void> {
    const recorder = this.#recorder;
    if (recorder === null) return;
    const seen = (result: unknown) => this.#trace(`retention: ${JSON.stringify(result)}`);
    await this.#time.run(this.#owner, () => {
      recorder.retention.run().then(seen, (error: unknown) => {
        if (!this.#diskFailed) this.#fail(error);
      });
    });
    if (this.#random.int(0, 5) > 0) return;
    await this.#advance(this.#random.int(0, 12));
    this.#powerLoss();
  }

  #changeDisk(): void {
    this.#diskState = this.#random.pick(['well', 'well', 'full', 'sync fails', 'read fails', 'failing']);
    this.#trace(`disk: ${this.#diskState}`);
  }

  #changeWeather(): void {
    const weather = this.#random.pick(['calm', 'storm', 'storm', 'down', 'killed'] as const);
    if (weather === 'killed') this.#server.kill();
    else this.#server.weather = weather;
    this.#trace(`server: ${weather}`);
  }

  async #start(): Promise<boolean> {
    this.#forgetRecorder();
    this.#diskFailed = false;
    this.#trace('the recorder starts');
    const ended = () => {
      this.#trace('the recorder ends itself');
      this.#killRecorder();
    };
    try {
      this.#recorder = await this.#time.until(this.#owner, () =>
        openRecorder(this.#disk, this.#settings, this.#producers, this.#seams, ended, this.#feed),
      );
    } catch (error) {
      if (!this.#diskFailed) throw error;
      this.#trace(`it cannot: ${error}`);
      this.#forgetRecorder();
      return false;
    }
    this.#isRecovered = true;
    const { nextLsn, recovery } = this.#recorder.path.wal;
    this.#trace(`recovered up to LSN ${nextLsn}: ${show(recovery.findings)}`);
    if (this.#flusher === null) await this.#startFlusher();
    return true;
  }

  async #startFlusher(): Promise<void> {
    // As `recorder load` does: a log that nobody has recovered is not delivered from.
    if (!this.#isRecovered) return;
    this.#flusherFailed = false;
    this.#diskFailedFlusher = false;
    this.#trace('the flusher starts');
    await this.#time.run(this.#flusherOwner, () => {
      const connect = () => this.#server.connect();
      const report = (event: FlusherEvent) => this.#reported(event);
      const { format } = this.#settings;
      this.#flusher = startFlusher(this.#disk, connect, format, this.#random, this.#seams, report);
    });
  }

  #reported(event: FlusherEvent): void {
    if (event.kind === 'dead_letter') {
      this.#trace(`dead: ${event.topic} ${event.firstLsn}-${event.lastLsn}`);
      this.#oracle.died(event.topic, event.firstLsn, event.lastLsn);
    }
    if (event.kind === 'damage' && this.#settings.walSync === 'group') this.#fail(event);
    if (event.kind !== 'failed') return;
    this.#trace(`flusher failed: ${event.message}`);
    this.#flusherFailed = true;
    const isDisk = event.code !== 'group_changed' && this.#diskFailedFlusher;
    if (!isDisk && !this.#oracle.mayForget) this.#fail(event);
  }

  get #owner(): string {
    return `recorder ${this.#lives}`;
  }

  get #flusherOwner(): string {
    return this.#isLoader ? `loader ${this.#loaderLives}` : this.#owner;
  }

  #killRecorder(): void {
    this.#trace('the recorder is killed');
    this.#forgetRecorder();
  }

  #forgetRecorder(): void {
    this.#time.kill(this.#owner);
    this.#disk.interruptWrites(this.#random);
    this.#lives++;
    this.#recorder = null;
    for (const producer of this.#producers) producer.disconnect(false);
    if (!this.#isLoader) this.#flusher = null;
    this.#unlock(`${DIR}/lock`);
  }

  /** The owner is dead. */
  #unlock(path: string): void {
    this.#undisturbed(() => {
      if (this.#disk.exists(path)) this.#disk.unlink(path);
    });
  }

  /** Looks at the disk, or changes it, without its faults. */
  #undisturbed(action: () => void): void {
    const { fault } = this.#disk;
    this.#disk.fault = () => null;
    action();
    this.#disk.fault = fault;
  }

  #endLoader(): void {
    if (!this.#isLoader) return;
    this.#time.kill(this.#flusherOwner);
    this.#loaderLives++;
    this.#flusher = null;
  }

  #killFlusher(): void {
    if (!this.#isLoader) {
      this.#killRecorder();
      return;
    }
    this.#trace('the loader is killed');
    this.#endLoader();
    this.#unlock(`${DIR}/flusher/lock`);
  }

  /** As an operator does; also where it failed. */
  async #restartFlusher(): Promise<void> {
    const flusher = this.#flusher;
    if (flusher !== null) {
      this.#trace('the flusher stops');
      await this.#unlessEnded(this.#time.until(this.#flusherOwner, () => flusher.stop()));
    }
    this.#flusher = null;
    if (this.#recorder !== null || this.#isLoader) await this.#startFlusher();
  }

  async #stop(): Promise<void> {
    const recorder = this.#recorder;
    if (recorder === null) return;
    this.#trace('the recorder stops');
    const stop = async () => {
      try {
        const isSafe = await recorder.path.flush(300);
        if (!this.#isLoader) await this.#flusher?.stop();
        await recorder.path.close();
        if (!isSafe) throw new Error('a stop found no way to the disk');
      } catch (error) {
        if (!this.#diskFailed) throw error;
      }
    };
    await this.#unlessEnded(this.#time.until(this.#owner, stop));
    this.#forgetRecorder();
  }

  /** Waits for a process that the disk may end. */
  async #unlessEnded(waiting: Promise<void>): Promise<void> {
    try {
      await waiting;
    } catch (error) {
      if (!(error instanceof EndedError)) throw error;
    }
  }

  #powerLoss(): void {
    this.#trace('the power fails');
    this.#isRecovered = false;
    this.#endLoader();
    if (this.#settings.walSync !== 'group') {
      this.#oracle.mayForget = true;
      for (const producer of this.#producers) producer.mayForget = true;
    }
    this.#adopt(this.#disk.afterPowerLoss(this.#random));
    this.#undisturbed(() => this.#guarded(() => this.#oracle.checkpoint(this.#disk)));
    this.#forgetRecorder();
    this.#unlock(`${DIR}/flusher/lock`);
  }

  #adopt(disk: MemoryFileSystem): void {
    this.#disk = disk;
    disk.backgroundBytes = this.#backgroundBytes;
    disk.fault = (operation, path) => {
      const code = this.#faultOf(operation, path);
      if (code !== null) {
        this.#trace(`${code}: ${operation} ${path}`);
        this.#diskFailed = true;
        this.#diskFailedFlusher = true;
        this.#oracle.mayForgetRefused = true;
        for (const producer of this.#producers) producer.mayForgetRefused = true;
      }
      return code;
    };
    disk.shortWrite = (sizeBytes) => this.#random.int(0, sizeBytes);
    disk.delay = () => {
      const ms = this.#random.int(0, 5);
      return ms === 0 ? Promise.resolve() : this.#time.delay(ms);
    };
  }

  #faultOf(operation: Operation, path: string): string | null {
    switch (this.#diskState) {
      case 'well':
        return null;
      case 'full':
        // Blocks that are there already can be written to.
        if (operation !== 'open' && operation !== 'write') return null;
        return path.endsWith('.wal') ? null : 'ENOSPC';
      case 'sync fails':
        return operation === 'sync' && this.#random.int(0, 2) === 0 ? 'EIO' : null;
      case 'read fails':
        return operation === 'read' && this.#random.int(0, 15) === 0 ? 'EIO' : null;
      case 'failing':
        if (operation === 'read' && this.#random.int(0, 3) > 0) return null;
        return this.#random.int(0, 9) === 0 ? 'EIO' : null;
    }
  }

  /**
   * All is well again: everything has to arrive. A recorder may still end once of what the disk has done to
   * it before: it is started again, as its operator's system would.
   */
  async #heal(): Promise<void> {
    this.#trace('all is well');
    this.#diskState = 'well';
    this.#server.weather = 'calm';
    try {
      await this.#arrive();
    } catch (error) {
      if (!(error instanceof EndedError) || !this.#diskFailed) throw error;
      await this.#arrive();
    }
  }

  async #arrive(): Promise<void> {
    const deadlineMs = this.#time.nowMs + HEALING_MS;
    while (!(await this.#isAllAcked())) {
      this.#check();
      if (this.#time.nowMs > deadlineMs) throw new Error(`not acknowledged: ${show(this.#producers)}`);
      await this.#time.advance(50);
    }
    const { sequencer } = this.#recorder!;
    if (sequencer !== null) {
      await this.#time.run(this.#owner, () => this.#guarded(() => this.#feed!.finish(sequencer)));
      // Beyond the time after which a gap is reported.
      await this.#time.advance(50);
      await this.#time.until(this.#owner, () => this.#recorder!.path.flush(HEALING_MS));
    }
    if (this.#flusher === null || this.#flusherFailed) await this.#restartFlusher();
    // What runs at the server comes to its end before nothing is left to do.
    await this.#time.advance(250);
    this.#check();
    // What came by datagrams waits for no ack, but perhaps for the next look at a disk that was full.
    await this.#time.until(this.#owner, () => this.#recorder!.path.flush(HEALING_MS));
    const flusher = this.#flusher!;
    const { complete, left } = await this.#time.until(this.#flusherOwner, () => flusher.drain(HEALING_MS));
    if (!complete && !this.#oracle.mayForget) throw new Error(`not delivered: ${show(left)}`);
    await this.#time.until(this.#owner, () => this.#recorder!.path.close());
  }

  async #isAllAcked(): Promise<boolean> {
    if (this.#recorder === null) await this.#start();
    const recorder = this.#recorder!;
    await this.#time.run(this.#owner, () =>
      this.#guarded(() => {
        for (const producer of this.#producers) {
          if (producer.connection === null) producer.connect(recorder.shared);
          producer.send(true);
        }
      }),
    );
    return this.#producers.every(({ isAcked }) => isAcked);
  }

  #verify(): void {
    const { damaged } = verifyWal(this.#disk, DIR);
    if (damaged.length > 0 && this.#settings.walSync === 'group')
      throw new Error(`damaged: ${show(damaged)}`);
  }

  #guarded(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(reason: unknown): void {
    this.#failure ??= reason instanceof Error ? reason : new Error(show(reason));
  }

  #check(): void {
    if (this.#disk.writesIntoClosed > 0) throw new Error('a thread wrote into a closed file');
    if (this.#failure !== null) throw this.#failure;
  }
}

function show(value: unknown): string {
  return JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? String(part) : part));
}
