import { afterEach, beforeEach, expect, test } from 'bun:test';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type FeedFixture, feedFixture } from '../feed/feed-fixture.ts';
import { connectMold, type MoldReceiver } from '../feed/mold-receiver.ts';
import { FakeRecorder } from '../feed/producer-support.ts';

const main = join(import.meta.dir, '..', '..', 'src', 'main.ts');
const LEAN = '14430270,1815200,283,P,20002020,0\n67660116,1819900,170,N,1,0\n';

let fixture: FeedFixture;
let recorder: FakeRecorder;
let socket: string;
beforeEach(async () => {
  fixture = feedFixture();
  socket = join(fixture.directory, 's');
  recorder = (await FakeRecorder.start(socket)).syncEvery(5);
});
afterEach(() => {
  recorder.stop();
  fixture[Symbol.dispose]();
});

interface FeedJson {
  sent: number;
  acked: number | null;
  topics: Record<string, number>;
  problems: string[];
  notes: string[];
  skippedLines: Record<string, number>;
  dropped: { first: number; last: number }[];
  alreadyDurable: number;
  interrupted: boolean;
  error?: { code: string; message: string };
}

function start(...flags: string[]) {
  return Bun.spawn([process.execPath, main, 'feed', ...flags], { stdout: 'pipe', stderr: 'pipe' });
}

async function feed(
  ...flags: string[]
): Promise<{ code: number; output: string; errors: string; json: FeedJson }> {
  const child = start(...flags);
  const [output, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  const last = output.trim().split('\n').at(-1) ?? '';
  return {
    code,
    output,
    errors,
    json: last.startsWith('{') ? (JSON.parse(last) as FeedJson) : ({} as FeedJson),
  };
}

test('a file is sent, acknowledged, and told in one JSON line', async () => {
  const path = fixture.write('20131007_ibm.csv.gz', gzipSync(LEAN));
  const { code, json, errors } = await feed('lean', path, '--socket', socket, '--json');
  expect(code).toBe(0);
  expect(json).toMatchObject({ feed: 'lean', sent: 2, acked: 2, topics: { market_data: 2 }, problems: [] });
  expect(recorder.sink.frames).toHaveLength(2);
  expect(errors).toMatch(/feed lean: 2 rows, [\d,]+ rows\/s, 100 %/);
});

test('the same seed sends the same frames; text output says how many', async () => {
  const { code, output } = await feed('sim', '--rows', '500', '--seed', '5', '--socket', socket);
  expect(code).toBe(0);
  expect(output).toMatch(/^sent 500 \(market_data \d+, .*\) in [\d.]+ s\nacknowledged as durable: 500\n$/);
  const first = recorder.sink.frames.map(({ bytes }) => bytes.toHex());
  await feed('sim', '--rows', '500', '--seed', '5', '--socket', socket);
  expect(recorder.sink.frames.slice(500).map(({ bytes }) => bytes.toHex())).toEqual(first);
});

test('--rows ends a file early, and a session that is resumed sends only the rest', async () => {
  const path = fixture.write('20131007_ibm.csv', LEAN.repeat(50));
  const flags = ['lean', path, '--socket', socket, '--session', 'again', '--json'];
  expect((await feed(...flags, '--rows', '30')).json).toMatchObject({ sent: 30, acked: 30 });
  expect((await feed(...flags)).json).toMatchObject({ sent: 100, acked: 100, alreadyDurable: 30 });
  expect(recorder.sink.frames).toHaveLength(100);
});

test('--no-ack only writes', async () => {
  const { code, json } = await feed('sim', '--rows', '100', '--socket', socket, '--no-ack', '--json');
  expect({ code, sent: json.sent, acked: json.acked }).toEqual({ code: 0, sent: 100, acked: null });
  while (recorder.sink.frames.length < 100) await Bun.sleep(5);
});

test('several files are merged by event time at a speed, and played one after another at max', async () => {
  const late = fixture.write('a/20131007_ibm.csv', '34200010,1000000,1,P,1,0\n34200030,1000000,3,P,1,0\n');
  const early = fixture.write('b/20131007_ibm.csv', '34200000,1000000,0,P,1,0\n34200020,1000000,2,P,1,0\n');
  const sizes = () =>
    recorder.sink.frames.splice(0).map(({ bytes }) => {
      // The volume is the only 64-bit field from 0 to 3e9 in steps of 1e9.
      for (let at = 0; at + 8 <= bytes.length; at += 4) {
        const value = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at, true);
        if (value > 0n && value <= 3_000_000_000n && value % 1_000_000_000n === 0n)
          return Number(value / 1_000_000_000n);
      }
      return 0;
    });
  expect((await feed('lean', late, early, '--socket', socket, '--speed', '10x')).code).toBe(0);
  expect(sizes()).toEqual([0, 1, 2, 3]);
  expect((await feed('lean', late, early, '--socket', socket)).code).toBe(0);
  expect(sizes()).toEqual([1, 3, 0, 2]);
});

test('a wrong format sends nothing, names both formats, and exits 1', async () => {
  const wrong = fixture.write('AAPL_2012-06-21_message_1.csv', '34200.004241176,1,16113575,18,5853300,1\n');
  const right = fixture.write('20131007_ibm.csv', LEAN);
  const { code, json, errors } = await feed('lean', right, wrong, '--socket', socket, '--json');
  expect(code).toBe(1);
  expect(errors).toContain('expected LEAN tick trades or quotes, found LOBSTER messages');
  expect(errors).toContain('play it with: recorder feed lobster');
  expect(json.error?.code).toBe('feed_wrong_format');
  expect(recorder.sink.frames).toHaveLength(0);
});

test('a truncated file sends what can be read and exits 1', async () => {
  const packed = gzipSync(
    Array.from({ length: 9000 }, (_, i) => `${14_430_270 + i},18${i % 97}00,283,P,1,0\n`).join(''),
  );
  const path = fixture.write('20131007_ibm.csv.gz', packed.subarray(0, packed.length / 2));
  const { code, json } = await feed('lean', path, '--socket', socket, '--json');
  expect(code).toBe(1);
  expect(json.problems.join()).toContain('ends in the middle of its compressed data');
  expect(json.sent).toBeGreaterThan(1000);
  expect(json.acked).toBe(json.sent);
});

test('unknown streams do not fail the feed, bad lines do', async () => {
  const mark = '{"stream":"x@markPrice","data":{"e":"markPriceUpdate","s":"X"}}\n';
  const odd = await feed('binance', fixture.write('odd', mark), '--socket', socket, '--json');
  expect(odd.code).toBe(0);
  expect(odd.json.skippedLines).toEqual({ 'event "markPriceUpdate"': 1 });
  const bad = await feed('binance', fixture.write('bad', `${mark}{"stream"\n`), '--socket', socket, '--json');
  expect(bad.code).toBe(1);
  expect(bad.json.problems[0]).toContain('bad, line 2: no JSON');
});

const MISUSE: [flags: string[], text: string][] = [
  [['lean'], 'feed lean needs files'],
  [['sim', 'x.csv'], 'feed sim takes no files'],
  [['sim', '--speed', 'fast'], '--speed fast: expected max, or a factor'],
  [['sim', '--rows', 'many'], 'expected a whole number of at least 1'],
  [['sim', '--drop-rate', '0.1'], '--drop-rate is for --udp only'],
  [['sim', '--udp', '127.0.0.1'], 'UDP endpoint "127.0.0.1"'],
  [['sim', '--udp', '127.0.0.1:9', '--session', 'eleven-char'], 'a UDP session has at most 10 characters'],
  [['lean', 'x.csv', '--date', 'today'], '--date today: expected a day as 2013-10-07'],
  [['lean', '/nonexistent.csv'], '/nonexistent.csv: cannot be read'],
  [['nyse'], 'Allowed choices are lean, binance, lobster, sim'],
];
for (const [flags, text] of MISUSE) {
  test(`feed ${flags.join(' ')}: exits 1 and says why`, async () => {
    const { code, errors } = await feed(...flags);
    expect(code).toBe(1);
    expect(errors).toContain(text);
  });
}

test('no recorder: says where it looked, and exits 1', async () => {
  const flags = ['sim', '--socket', join(fixture.directory, 'none'), '--connect-timeout', '50', '--json'];
  const { code, json } = await feed(...flags);
  expect(code).toBe(1);
  expect(json.error?.message).toContain('no recorder answers at');
});

test('a signal stops a replay; what was sent is acknowledged', async () => {
  const child = start('sim', '--rows', '100000', '--speed', '0.1x', '--socket', socket, '--json');
  while (recorder.sink.frames.length < 5) await Bun.sleep(10);
  child.kill('SIGTERM');
  const json = JSON.parse((await new Response(child.stdout).text()).trim()) as FeedJson;
  expect(await child.exited).toBe(1);
  expect(json.interrupted).toBe(true);
  expect(json.sent).toBeLessThan(100_000);
  expect(json.acked).toBe(json.sent);
  expect(recorder.sink.frames).toHaveLength(json.sent);
});

test('datagrams: all comes but what was dropped on purpose, and the drops are told exactly', async () => {
  const receiver: MoldReceiver = await connectMold();
  try {
    const flags = [
      'sim',
      '--rows',
      '2000',
      '--udp',
      `127.0.0.1:${receiver.port}`,
      '--session',
      'S1',
      '--json',
    ];
    const { code, json } = await feed(...flags, '--drop-every', '20', '--datagrams-per-second', '5000');
    expect(code).toBe(0);
    expect(json).toMatchObject({ sent: 2000, acked: null });
    expect(json.dropped.length).toBeGreaterThan(5);
    while (!receiver.ended) await Bun.sleep(5);
    const missing: number[] = [];
    for (let seq = 1; seq <= 2000; seq++) if (!receiver.seqs.has(seq)) missing.push(seq);
    const dropped = json.dropped.flatMap(({ first, last }) =>
      Array.from({ length: last - first + 1 }, (_, i) => first + i),
    );
    expect(missing).toEqual(dropped);
    expect(receiver.sessions).toEqual(new Set(['S1']));
  } finally {
    receiver.close();
  }
});
