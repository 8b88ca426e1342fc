// udp/<messages>: datagrams a second that arrive without a single loss, over loopback, frames of 128 bytes,
// sync `group`. Limit: what the same sender, a C program, sends when nothing holds it back. Ratio: share of
// that.
//
//   udp/one-message      one message a datagram
//   udp/ten-messages     ten messages a datagram (1,320 bytes)
//   …/loss-at-full-rate  share of the rows that are lost when the sender is not held back, %
//
// Where the full rate is not without loss, the highest rate without is found by halving. Every try is longer
// than what the receive buffer could hide.

import { join } from 'node:path';
import type { FeedEvent } from '../src/feed/event.ts';
import type { RecorderProcess } from '../test/support/recorder-process.ts';
import type { BenchOptions, BenchResult, BenchSuite } from './suite.ts';
import { type FrameFile, framesOf, inputEvents, originOf, writeFrameFile } from './support/inputs.ts';
import { metricOf } from './support/metrics.ts';
import { startServe, stopServe, temporaryHome } from './support/recorder.ts';
import { median } from './support/statistics.ts';

const PACKINGS = { 'one-message': 1, 'ten-messages': 10 } as const;
const FRAME_BYTES = 128;
const RECEIVED = /^recorder_received_rows_total\{topic="market_data"\} (\d+)/m;

interface Scene {
  sender: string;
  input: FrameFile;
  recorder: RecorderProcess;
  seconds: number;
  messages: number;
  /** Rows that have arrived in all tries. */
  received: number;
}

interface Try {
  datagramsPerSecond: number;
  lostShare: number;
}

/** Compiles the sender; null, said aloud, where there is no compiler. */
async function buildSender(dir: string): Promise<string | null> {
  const compiler = Bun.which('gcc') ?? Bun.which('cc');
  if (compiler === null) {
    process.stderr.write('\n*** no C compiler: the UDP benchmarks DO NOT RUN (apt-get install gcc)\n\n');
    return null;
  }
  const target = join(dir, 'udp-sender');
  const source = join(import.meta.dir, 'programs/udp-sender.c');
  const build = Bun.spawn([compiler, '-O2', '-o', target, source], { stderr: 'inherit' });
  if ((await build.exited) !== 0) throw new Error('udp-sender.c does not compile');
  return target;
}

/** Rows that have arrived, when no more come. */
async function settledRows(recorder: RecorderProcess): Promise<number> {
  for (let before = -1; ; ) {
    const received = await metricOf(recorder, RECEIVED);
    if (received === before) return received;
    before = received;
    await Bun.sleep(250);
  }
}

/**
 * Frames of FRAME_BYTES among ticks that leave these fields out; null where there are none. A recorded tick
 * is as long without the type of its instrument, most simulated ones without the trade's id too.
 */
function framesWithout(events: readonly FeedEvent[], fields: readonly string[]): Uint8Array[] | null {
  const leaner = events.map((event) => {
    const kept = Object.entries(event.row).filter(([name]) => !fields.includes(name));
    return { ...event, row: Object.fromEntries(kept) };
  });
  const frames = framesOf(leaner).filter(({ length }) => length === FRAME_BYTES + 4);
  return frames.length === 0 ? null : frames;
}

let sessions = 0;

/** Sends for a while; `rate` 0: unbounded. */
async function attempt(scene: Scene, rate: number, expectedRate: number): Promise<Try> {
  const { sender, input, recorder, messages } = scene;
  const datagrams = Math.ceil(expectedRate * scene.seconds);
  const session = `B${++sessions}`;
  const port = String(recorder.udpPorts[0]);
  const args = [port, input.path, session, String(datagrams), String(messages), String(rate)];
  const child = Bun.spawn([sender, ...args], { stderr: 'inherit' });
  const output = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`udp-sender ${args.join(' ')}: code ${child.exitCode}`);
  const { seconds } = JSON.parse(output) as { seconds: number };
  const arrived = (await settledRows(recorder)) - scene.received;
  scene.received += arrived;
  return { datagramsPerSecond: datagrams / seconds, lostShare: 1 - arrived / (datagrams * messages) };
}

/** The highest rate without loss below `limit`, to within a hundredth of it. */
async function highestLossless(scene: Scene, limit: number, tries: number): Promise<number> {
  let [good, bad] = [0, limit];
  for (let i = 0; i < tries; i++) {
    const rate = (good + bad) / 2;
    const { lostShare, datagramsPerSecond } = await attempt(scene, rate, rate);
    if (lostShare === 0) good = Math.max(good, datagramsPerSecond);
    else bad = rate;
  }
  return good;
}

async function measure(scene: Scene, name: string, { quick }: BenchOptions): Promise<BenchResult[]> {
  await attempt(scene, 20_000, 20_000); // compiled code
  const full: Try[] = [];
  for (let i = 0; i < (quick ? 1 : 3); i++) full.push(await attempt(scene, 0, 400_000));
  const limit = median(full.map((each) => each.datagramsPerSecond));
  const lost = median(full.map(({ lostShare }) => lostShare));
  const value = lost === 0 ? limit : await highestLossless(scene, limit, quick ? 4 : 7);
  return [
    { name, value, unit: 'datagrams/s', baseline: limit, ratio: value / limit },
    { name: `${name}/loss-at-full-rate`, value: lost * 100, unit: '%', baseline: 100, ratio: lost },
  ];
}

export async function* udpSuite(...[options, wanted]: Parameters<BenchSuite>): ReturnType<BenchSuite> {
  if (!Object.keys(PACKINGS).some((packing) => wanted(`udp/${packing}`))) return;
  using home = temporaryHome();
  const sender = await buildSender(home.path);
  if (sender === null) return;
  const events = await inputEvents('ticks', 8192);
  const frames =
    framesWithout(events, ['instrument_type']) ?? framesWithout(events, ['instrument_type', 'trade_id']);
  if (frames === null) throw new Error(`no frame of ${FRAME_BYTES} bytes among ${events.length} ticks`);
  const input = writeFrameFile(join(home.path, 'frames'), frames, originOf('ticks'));
  for (const [packing, messages] of Object.entries(PACKINGS)) {
    if (!wanted(`udp/${packing}`)) continue;
    const dir = join(home.path, packing);
    const recorder = await startServe(dir, { HFT_RECORDER_UDP: 'bench=127.0.0.1:0' });
    const scene = { sender, input, recorder, seconds: options.quick ? 0.5 : 2, messages, received: 0 };
    yield* await measure(scene, `udp/${packing}`, options);
    await stopServe(recorder, scene.received);
  }
}
