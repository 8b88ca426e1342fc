// ingest/unix/<sync>: rows a second from the Unix socket to the acknowledgement of the last one, one session,
// frames of 140 bytes with their size prefix. Limit: the same bytes, sent by the same program over the same
// kind of socket, to a Bun.listen that drops them. Ratio: share of the limit. Medians of rounds that take
// turns.
//
//   …/user-cpu, …/system-cpu    ns a row of the recorder's process, against the receiver that drops
//   …/resident                  most resident memory of the process, against the target
//   …/while-flushing            rows a second while the flusher delivers to an embedded ClickHouse, against
//                               the same recorder that does not deliver; all on the same cores
//   …/while-flushing/main-thread  CPU of the ingest thread alone, ns a row, against the same: what the
//                               flusher costs it however many cores there are

import { join } from 'node:path';
import { startTestServer } from '../test/support/embedded.ts';
import type { RecorderProcess } from '../test/support/recorder-process.ts';
import type { BenchOptions, BenchResult, BenchSuite } from './suite.ts';
import { type FrameFile, inputFile } from './support/inputs.ts';
import { type CpuTimes, cpuBetween, cpuTimes, residentBytes } from './support/proc.ts';
import { sendTogether, startProgram } from './support/programs.ts';
import { checkWal, startServe, stopServe, temporaryHome } from './support/recorder.ts';
import { interleave, median } from './support/statistics.ts';

const DISTINCT_FRAMES = 8192;
const RESIDENT_TARGET_MB = 150;
const POLICIES = ['group', 'interval', 'none'] as const;

/** One burst of rows. */
interface Burst {
  rowsPerSecond: number;
  cpu: CpuTimes;
}

/** Sends rows to a process and measures it. */
async function burst(
  pid: number,
  socket: string,
  input: FrameFile,
  rows: number,
  session: string | null,
): Promise<Burst> {
  const before = cpuTimes(pid);
  const { seconds } = await sendTogether([{ socket, framesPath: input.path, frames: rows, session }]);
  return { rowsPerSecond: rows / seconds, cpu: cpuBetween(before, cpuTimes(pid)) };
}

const rate = (bursts: readonly Burst[]) => median(bursts.map(({ rowsPerSecond }) => rowsPerSecond));
const perRow = (bursts: readonly Burst[], rows: number, part: keyof CpuTimes) =>
  median(bursts.map(({ cpu }) => cpu[part] / rows));

async function measurePolicy(name: string, sync: string, options: BenchOptions): Promise<BenchResult[]> {
  using home = temporaryHome();
  const rows = options.quick ? 1_000_000 : 3_000_000;
  const rounds = options.quick ? 2 : 5;
  const input = await inputFile(home.path, 'ticks', DISTINCT_FRAMES);
  const dropSocket = join(home.path, 'drop');
  const dropper = await startProgram('drop-receiver.ts', dropSocket);
  const recorder = await startServe(home.path, { HFT_WAL_SYNC: sync });
  const toDropper = () => burst(dropper.pid, dropSocket, input, rows, null);
  const toRecorder = (round: number) => burst(recorder.pid, recorder.socket, input, rows, `round-${round}`);
  // Then its code is compiled. More rows in all, and what `none` leaves in the page cache is more than the
  // kernel lets a process leave there: it has to wait for the disk then.
  const warmUp = rows;
  await burst(recorder.pid, recorder.socket, input, warmUp, 'warm-up');
  await toDropper();
  const { a, b } = await interleave(rounds, toRecorder, toDropper);
  const residentMb = residentBytes(recorder.pid).peak / 1e6;
  await dropper.end();
  const sent = rounds * rows + warmUp;
  await stopServe(recorder, sent);
  await checkWal(recorder.walDir, sent);
  const compare = (suffix: string, unit: string, value: number, baseline: number): BenchResult => ({
    name: `${name}${suffix}`,
    value,
    unit,
    baseline,
    ratio: value / baseline,
  });
  return [
    compare('', 'rows/s', rate(a), rate(b)),
    compare('/user-cpu', 'ns/row', perRow(a, rows, 'userNs'), perRow(b, rows, 'userNs')),
    compare('/system-cpu', 'ns/row', perRow(a, rows, 'systemNs'), perRow(b, rows, 'systemNs')),
    compare('/resident', 'MB', residentMb, RESIDENT_TARGET_MB),
  ];
}

/** Bursts while the flusher works on the rows of those before, against a recorder that does not deliver. */
async function measureWhileFlushing(name: string, options: BenchOptions): Promise<BenchResult[]> {
  using home = temporaryHome();
  const rows = options.quick ? 1_000_000 : 3_000_000;
  const rounds = options.quick ? 1 : 5;
  const input = await inputFile(home.path, 'ticks', DISTINCT_FRAMES);
  const server = await startTestServer();
  const port = new URL(server.url).port;
  const delivery = {
    HFT_RECORDER_MODE: 'direct',
    HFT_CLICKHOUSE_PORT: port,
    HFT_CLICKHOUSE_HOST: '127.0.0.1',
  };
  const recorders: RecorderProcess[] = [];
  try {
    recorders.push(await startServe(join(home.path, 'delivers'), delivery));
    recorders.push(await startServe(join(home.path, 'records')));
    const [delivers, records] = recorders as [RecorderProcess, RecorderProcess];
    const send = (to: RecorderProcess, session: string) => burst(to.pid, to.socket, input, rows, session);
    await send(records, 'warm-up');
    // The rows of this one are what the flusher is busy with from the first measured row on.
    const backlog = () => send(delivers, `backlog-${performance.now()}`);
    const whileFlushing = async (round: number) => {
      await backlog();
      return await send(delivers, `round-${round}`);
    };
    const alone = async (round: number) => {
      await waitUntilDelivered(delivers);
      // As many rows before the measured ones as the other has: its code is compiled as well.
      await send(records, `before-${round}`);
      return await send(records, `round-${round}`);
    };
    await backlog();
    const { a, b } = await interleave(rounds, whileFlushing, alone);
    const cpu = (bursts: readonly Burst[]) => perRow(bursts, rows, 'mainThreadNs');
    await stopServe(delivers, rows * (1 + 2 * rounds));
    await stopServe(records, rows * (1 + 2 * rounds));
    return [
      { name, value: rate(a), unit: 'rows/s', baseline: rate(b), ratio: rate(a) / rate(b) },
      {
        name: `${name}/main-thread`,
        value: cpu(a),
        unit: 'ns/row',
        baseline: cpu(b),
        ratio: cpu(a) / cpu(b),
      },
    ];
  } finally {
    for (const recorder of recorders) if (recorder.alive()) await recorder.end('SIGKILL');
    await server.close();
  }
}

/** Waits until a recorder that delivers has no CPU use to speak of. */
async function waitUntilDelivered({ pid }: RecorderProcess): Promise<void> {
  for (let quiet = 0; quiet < 3; ) {
    const before = cpuTimes(pid);
    await Bun.sleep(200);
    const { userNs, systemNs } = cpuBetween(before, cpuTimes(pid));
    quiet = userNs + systemNs <= 20e6 ? quiet + 1 : 0;
  }
}

export async function* ingestSuite(...[options, wanted]: Parameters<BenchSuite>): ReturnType<BenchSuite> {
  for (const sync of options.quick ? (['group'] as const) : POLICIES) {
    const name = `ingest/unix/${sync}`;
    if (wanted(name)) yield* await measurePolicy(name, sync, options);
  }
  const name = 'ingest/unix/group/while-flushing';
  if (wanted(name)) yield* await measureWhileFlushing(name, options);
}
