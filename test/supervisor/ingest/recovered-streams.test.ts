import { expect, test } from 'bun:test';
import { run, startRecorderProcess, temporaryHome } from '../../support/recorder-process.ts';

test('a session is resumed after any number of restarts without new rows', async () => {
  using home = temporaryHome();
  const feed = (socket: string, rows: number) =>
    run(['feed', 'sim', '--rows', String(rows), '--session', 'day', '--socket', socket, '--json']);
  let recorder = await startRecorderProcess(home.path);
  try {
    expect((await feed(recorder.socket, 1000)).json).toMatchObject({ acked: 1000, alreadyDurable: 0 });
    for (const signal of ['SIGTERM', 'SIGKILL', 'SIGKILL', 'SIGTERM'] as const) {
      await recorder.end(signal);
      recorder = await startRecorderProcess(home.path);
    }
    expect((await feed(recorder.socket, 1500)).json).toMatchObject({ acked: 1500, alreadyDurable: 1000 });
    await recorder.end('SIGTERM');
    const { json } = await run(['wal', 'verify', recorder.walDir, '--json']);
    expect(json).toMatchObject({ rows: 1500, damaged: [] });
  } finally {
    await recorder.end('SIGKILL');
  }
}, 60_000);
