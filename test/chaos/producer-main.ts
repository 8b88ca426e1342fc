// One simulated engine of the chaos harness: sends a seeded session, as far as its parent allows, and says
// what is acknowledged. It can be killed at any moment; started again with the number after the last
// acknowledged one, it makes the same rows again and sends the rest. What is acknowledged it never sends
// again: a recorder that had lost such a row could not get it back.
//
// Standard input: a line with the number of the last frame that may be sent. Standard output: JSON lines.

import { connectProducer } from '../../src/feed/producer.ts';
import { simulate } from '../../src/feed/sim/simulator.ts';
import { createFrameBuilder, type FrameBuilder } from '../../src/schema/build-frame.ts';
import { topics } from '../../src/schema/registry.ts';

/** What the parent gives as the only argument, as JSON. */
export interface ProducerTask {
  socket: string;
  source: string;
  session: string;
  seed: number;
  rows: number;
  firstSeq: number;
}

/** What the producer says, a line each time something has changed. */
export interface ProducerReport {
  sent: number;
  acked: number;
  connections: number;
}

const REPORT_INTERVAL_MS = 10;
const CONNECT_TIMEOUT_MS = 120_000;

async function main(task: ProducerTask): Promise<void> {
  let allowed = 0;
  let wake: () => void = () => undefined;
  void readNumbers((number) => {
    allowed = Math.max(allowed, number);
    wake();
  });
  const producer = await connectProducer({
    path: task.socket,
    session: { source: task.source, session: task.session },
    firstSeq: task.firstSeq,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
  });
  let said = '';
  const say = () => {
    const { connections } = producer.stats;
    const report: ProducerReport = { sent: producer.nextSeq - 1, acked: producer.ackedSeq, connections };
    const text = JSON.stringify(report);
    if (text !== said) process.stdout.write(`${text}\n`);
    said = text;
  };
  say();
  const timer = setInterval(say, REPORT_INTERVAL_MS);
  const builders = new Map<string, FrameBuilder>(
    topics.map((model) => [model.topic, createFrameBuilder(model)]),
  );
  let seq = 0;
  for (const batch of simulate({ seed: task.seed, rows: task.rows })) {
    for (const { topic, row } of batch) {
      seq++;
      if (seq < producer.nextSeq) continue;
      while (seq > allowed) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      if (!producer.send(builders.get(topic)!.build(row))) await producer.ready();
    }
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  await producer.close(CONNECT_TIMEOUT_MS);
  clearInterval(timer);
  say();
}

/** Reads numbers from standard input; its end is the end of the parent, and of this process. */
async function readNumbers(take: (number: number) => void): Promise<void> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of process.stdin) {
    const lines = (rest + decoder.decode(chunk as Uint8Array, { stream: true })).split('\n');
    rest = lines.pop()!;
    for (const line of lines) take(Number(line));
  }
  process.exit(2);
}

await main(JSON.parse(process.argv[2]!) as ProducerTask);
process.exit(0);
