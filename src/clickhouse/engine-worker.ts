// Worker: runs one statement at a time against the engine. The engine's calls block, so each runs here and
// the HTTP thread stays free to answer.

import { EngineError, type EngineResult, type EngineStatement, runStatement } from './engine.ts';
import { type Chdb, loadLibrary } from './library.ts';

declare const self: Worker;

/** To the worker: `open` once, then statements. */
export type EngineRequest =
  | { kind: 'open'; library: string; path: string }
  | { kind: 'run'; statement: EngineStatement };

/** From the worker: exactly one answer for each `run`. */
export type EngineAnswer =
  | { kind: 'done'; result: EngineResult }
  | { kind: 'failed'; message: string; exceptionCode: number };

let chdb: Chdb | null = null;
let path = '';

function answer(statement: EngineStatement): EngineAnswer {
  try {
    if (chdb === null) throw new Error('the engine worker got a statement before it was opened');
    return { kind: 'done', result: runStatement(chdb, path, statement) };
  } catch (error) {
    const exceptionCode = error instanceof EngineError ? error.exceptionCode : 1001;
    return { kind: 'failed', message: error instanceof Error ? error.message : String(error), exceptionCode };
  }
}

self.onmessage = (event: MessageEvent<EngineRequest>) => {
  const request = event.data;
  if (request.kind === 'open') {
    chdb = loadLibrary(request.library);
    path = request.path;
    return;
  }
  const reply = answer(request.statement);
  if (reply.kind === 'done') self.postMessage(reply, [reply.result.bytes.buffer]);
  else self.postMessage(reply);
};
