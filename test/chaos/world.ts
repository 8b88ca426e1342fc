// The processes of a chaos run: embedded ClickHouse, recorder, loader, producers; all real, all started by
// their command lines.
//
// The recorder changes at every start what an operator could change: its mode, the insert format, the size of
// insert groups. In mode wal_first the loader delivers beside it.

import { mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { SeededRandom } from '../support/random.ts';
import { recorderCommand, until } from '../support/recorder-process.ts';
import { Child } from './child.ts';
import type { ProducerReport, ProducerTask } from './producer-main.ts';

export interface WorldOptions {
  root: string;
  producers: number;
  rowsPerProducer: number;
  /** Whether wal_first and `recorder load` take part. */
  withLoader: boolean;
  random: SeededRandom;
  unexpected: (text: string) => void;
}

/** A producer's session, over all the processes that send it. */
export class ProducerSession {
  readonly source: string;
  readonly session: string;
  readonly seed: number;
  readonly rows: number;
  readonly child: Child;
  sent = 0;
  acked = 0;
  #allowed = 0;

  constructor(index: number, world: World, options: WorldOptions) {
    this.source = `engine-${index}`;
    this.session = `chaos-${options.random.seed}`;
    this.seed = options.random.int(1, 1_000_000);
    this.rows = options.rowsPerProducer;
    const task = (): ProducerTask => ({
      socket: world.socket,
      source: this.source,
      session: this.session,
      seed: this.seed,
      rows: this.rows,
      firstSeq: this.acked + 1,
    });
    this.child = world.makeChild(
      this.source,
      () => [process.execPath, join(import.meta.dir, 'producer-main.ts'), JSON.stringify(task())],
      (line) => {
        const said = JSON.parse(line) as ProducerReport;
        this.sent = Math.max(this.sent, said.sent);
        this.acked = Math.max(this.acked, said.acked);
      },
    );
  }

  get isAllAllowed(): boolean {
    return this.#allowed >= this.rows;
  }

  get allowed(): number {
    return this.#allowed;
  }

  start(): void {
    this.child.start();
    this.child.write(String(this.#allowed));
  }

  /** Lets the producer send `rows` more. */
  allow(rows: number): void {
    const before = this.#allowed;
    this.#allowed = Math.min(this.rows, this.#allowed + rows);
    if (this.#allowed !== before) this.child.write(String(this.#allowed));
  }
}

export class World {
  readonly root: string;
  readonly walDir: string;
  readonly socket: string;
  readonly recorder: Child;
  readonly loader: Child;
  readonly clickhouse: Child;
  readonly producers: ProducerSession[];
  readonly #options: WorldOptions;
  #port = 0;
  mode: 'direct' | 'wal_first' = 'direct';
  #settings: Record<string, string> = {};

  constructor(options: WorldOptions) {
    this.#options = options;
    this.root = options.root;
    mkdirSync(this.root, { recursive: true });
    this.walDir = join(this.root, 'wal');
    this.socket = join(this.root, 's');
    const places = ['--wal-dir', this.walDir];
    this.recorder = this.makeChild('recorder', () => [
      ...recorderCommand,
      ...['serve', ...places, '--socket', this.socket],
    ]);
    this.loader = this.makeChild('loader', () => [...recorderCommand, 'load', ...places]);
    this.clickhouse = this.makeChild('clickhouse', () => [
      ...recorderCommand,
      ...['clickhouse', '--path', join(this.root, 'clickhouse'), '--port', String(this.#port)],
      ...['--json', '--supervised'],
    ]);
    const indexes = Array.from({ length: options.producers }, (_, index) => index + 1);
    this.producers = indexes.map((index) => new ProducerSession(index, this, options));
  }

  get clickhouseUrl(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** A child with its log in the run's directory. */
  makeChild(name: string, command: () => string[], line?: (text: string) => void): Child {
    return new Child({
      name,
      command,
      logPath: join(this.root, `${name}.log`),
      env: () => this.#environment(),
      unexpected: this.#options.unexpected,
      ...(line === undefined ? {} : { line }),
    });
  }

  /** Starts everything and waits for the server. */
  async start(): Promise<void> {
    this.#port = await freePort();
    await this.startClickhouse();
    this.startRecorder();
    for (const producer of this.producers) producer.start();
  }

  /** Starts the server and waits until it answers. */
  async startClickhouse(): Promise<void> {
    this.clickhouse.start();
    await this.clickhouseAnswers();
  }

  async clickhouseAnswers(): Promise<void> {
    await until(
      async () => (await this.#pings()) || !this.clickhouse.alive,
      () => `ClickHouse does not answer: ${this.clickhouse.logTail()}`,
      60_000,
    );
  }

  /**
   * Starts the recorder with other settings than before, and the loader where the mode asks for it. A loader
   * that runs when the mode changes to `direct` delivers on until it is killed: the recorder waits for that.
   */
  startRecorder(): void {
    const { random, withLoader } = this.#options;
    this.mode = withLoader ? random.pick(['direct', 'wal_first']) : 'direct';
    this.#settings = {
      HFT_CLICKHOUSE_FORMAT: random.pick(['RowBinary', 'Native']),
      HFT_FLUSH_ROWS: random.pick(['500', '5000', '50000']),
      HFT_FLUSH_INTERVAL_MS: random.pick(['20', '100', '300']),
    };
    this.recorder.start();
    if (this.mode === 'wal_first') this.startLoader();
    else if (this.loader.alive) setTimeout(() => void this.loader.kill(), random.next() * 1500);
  }

  /** Starts the loader unless it runs, or is not wanted now. */
  startLoader(): void {
    if (this.mode === 'wal_first' && !this.loader.alive) this.loader.start();
  }

  /** Ends every process at once. */
  async killAll(): Promise<void> {
    const children = [
      ...this.producers.map(({ child }) => child),
      this.loader,
      this.recorder,
      this.clickhouse,
    ];
    await Promise.all(children.map((child) => child.kill()));
  }

  async #pings(): Promise<boolean> {
    try {
      return (await fetch(`${this.clickhouseUrl}/ping`, { keepalive: false })).ok;
    } catch {
      return false;
    }
  }

  #environment(): Record<string, string> {
    return {
      HFT_RECORDER_ID: 'chaos',
      HFT_RECORDER_MODE: this.mode,
      HFT_CLICKHOUSE_HOST: '127.0.0.1',
      HFT_CLICKHOUSE_PORT: String(this.#port),
      HFT_CLICKHOUSE_TIMEOUT_MS: '10000',
      // Small, so that segments end, and are made, and go while the run lasts.
      HFT_WAL_SEGMENT_BYTES: '2MiB',
      HFT_BATCH_ROWS: '1000',
      HFT_FLUSH_RETRY_MAX_MS: '500',
      HFT_DRAIN_TIMEOUT_MS: '120000',
      ...this.#settings,
    };
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}
