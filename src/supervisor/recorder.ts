// The recorder: wires the stages. Read this first.
//
//   listeners ─▶ framing, sessions ─▶ extractor ─▶ batches ─▶ WAL ─(sync)─▶ acks        ingest-path.ts
//                                                              │
//                                        flusher (Worker) ◀────┘ durable rows ─▶ ClickHouse
//
// Invariants
// - Nothing goes from the listeners to ClickHouse but through the WAL.
// - The flusher has a thread of its own: what ClickHouse does cannot hold up the ingest thread.
//
// Life cycle: startRecorder recovers the WAL, then opens the listeners; stop() drains: no further input,
// everything received is made durable and acknowledged, what ClickHouse takes within the deadline is
// delivered, the rest stays in the WAL for the next start.

import type { Config } from '../config.ts';
import { describeError } from '../errors.ts';
import { errorCode } from '../io/file-system.ts';
import { realFileSystem } from '../io/real-file-system.ts';
import type { Logger } from '../log.ts';
import { createDatagramListener, type DatagramListener } from '../net/datagram-listener.ts';
import { createStreamListener, type StreamListener } from '../net/stream-listener.ts';
import { parseUdpEndpoints, type UdpFeed } from '../net/udp-endpoint.ts';
import { topics } from '../schema/registry.ts';
import { runInput } from '../schema/run-memory.ts';
import type { Flusher } from '../sink/flusher.ts';
import { createWorkerFlusher } from '../sink/flusher-client.ts';
import type { DrainResult, FlusherEvent } from '../sink/flusher-types.ts';
import { flusherConfig } from './flusher-config.ts';
import { logFlusherEvent } from './flusher-log.ts';
import { makeRoomToStart } from './guards/disk-reserve.ts';
import { memoryBounds } from './guards/memory-guard.ts';
import { mayRemove, startRetention } from './guards/retention-timer.ts';
import { type IngestPath, openIngestPath } from './ingest/ingest-path.ts';
import { socketOwnership } from './ingest/socket-ownership.ts';
import { statusOf } from './status.ts';
import { STATUS_FILE, writeStatus } from './status-file.ts';
import { Watch } from './watch/watch.ts';

/** What a stop has left behind. */
export interface StopResult {
  /** Every row received is durable. */
  durable: boolean;
  /** Rows that are in the WAL but not in ClickHouse; null where this recorder does not deliver. */
  undelivered: DrainResult | null;
}

/** A running recorder. */
export interface Recorder {
  /** Drains within `deadlineMs` and stops. Idempotent. */
  stop(deadlineMs: number): Promise<StopResult>;
  /** Takes over what may change while it runs. Throws a RecorderError and changes nothing, or does it. */
  reload(config: Config): void;
}

/** Parts of a running recorder; null: not configured, or not yet open. */
export interface RecorderParts {
  config: Config;
  path: IngestPath;
  flusher: Flusher | null;
  stream: StreamListener | null;
  datagram: DatagramListener | null;
  /** Where the page is; null where there is none. */
  httpUrl: string | null;
}

/** Reading what producers have already written takes at most this share of the time for a stop. */
const INPUT_DRAIN_MS = 2000;
/** Time that a stop always gives to the last sync, whatever the deadline. */
const LEAST_COMMIT_MS = 1000;
const STATUS_INTERVAL_MS = 1000;

/**
 * Starts a recorder.
 * @param deliver whether a flusher runs: ClickHouse is on, and the mode is `direct`
 * @throws RecorderError of the WAL, the sockets or the UDP endpoints; nothing is left open then
 */
export async function startRecorder(config: Config, deliver: boolean, logger: Logger): Promise<Recorder> {
  const feeds = parseUdpEndpoints(config.udp);
  const sources = feeds.map(({ name }) => name);
  const watch = new Watch(config, logger);
  makeRoomToStart(config.walDir);
  const path = await openIngestPath(config, sources, watch, logger).catch((error) => {
    watch.stop();
    throw error;
  });
  const parts: RecorderParts = { config, path, flusher: null, stream: null, datagram: null, httpUrl: null };
  const saveStatus = createStatusWriter(parts, logger);
  const statusTimer = setInterval(saveStatus, STATUS_INTERVAL_MS);
  const isShort = () => watch.isDiskShort;
  const retention = mayRemove(config, deliver) ? startRetention(config, path.wal, isShort, logger) : null;
  watch.attachRetention(retention);
  const stop = async (deadlineMs: number): Promise<StopResult> => {
    const result = await drain(parts, watch, deadlineMs);
    clearInterval(statusTimer);
    await retention?.stop();
    saveStatus();
    watch.stop();
    await path.close();
    return result;
  };
  try {
    if (deliver) {
      watch.seedLag();
      parts.flusher = startFlusher(config, watch, logger);
    }
    watch.attach(parts);
    parts.httpUrl = watch.openHttp();
    if (feeds.length > 0) parts.datagram = await openDatagramListener(parts, feeds, logger);
    if (config.socketPath !== '') parts.stream = await openStreamListener(parts, logger);
    saveStatus();
  } catch (error) {
    await stop(0);
    throw error;
  }
  let stopping: Promise<StopResult> | null = null;
  return {
    stop: (deadlineMs) => {
      stopping ??= stop(deadlineMs);
      return stopping;
    },
    reload: (next) => {
      watch.reconfigure(next);
      parts.config = next;
      path.memory.setBounds(memoryBounds(next));
      retention?.reconfigure(next);
    },
  };
}

/** Writes the status; a disk that does not take it must not stop recording, and is one line in the log. */
function createStatusWriter(parts: RecorderParts, logger: Logger): () => void {
  const { walDir } = parts.config;
  let failed = false;
  return () => {
    try {
      writeStatus(realFileSystem, walDir, statusOf(parts));
      failed = false;
    } catch (error) {
      if (errorCode(error) === undefined) throw error;
      if (!failed) logger.warn(`${walDir}/${STATUS_FILE} is out of date: ${describeError(error)}`);
      failed = true;
    }
  };
}

function startFlusher(config: Config, watch: Watch, logger: Logger): Flusher {
  const report = (event: FlusherEvent) => {
    logFlusherEvent(logger, event);
    watch.flusherEvent(event);
  };
  const flusher = createWorkerFlusher({ config: flusherConfig(config), topics, report });
  flusher.start();
  return flusher;
}

async function openStreamListener({ config, path }: RecorderParts, logger: Logger): Promise<StreamListener> {
  const listener = await createStreamListener({
    path: config.socketPath,
    mode: config.socketMode,
    owner: socketOwnership(config.socketOwner),
    allowedUids: config.socketUids,
    maxFrameBytes: config.maxFrameBytes,
    streams: path.streams,
    sink: path.ingest,
    readBuffer: runInput,
    notice: (text) => logger.info(text),
  });
  path.attach(listener);
  const tookOver = listener.tookOver ? ' (taken over: its last owner is dead)' : '';
  logger.info(`listening on ${config.socketPath}${tookOver}`);
  return listener;
}

async function openDatagramListener(
  { config, path }: RecorderParts,
  feeds: readonly UdpFeed[],
  logger: Logger,
): Promise<DatagramListener> {
  const askedBytes = config.udpReceiveBufferBytes;
  const listener = await createDatagramListener({
    feeds,
    streams: path.streams,
    sink: path.ingest,
    gapTimeoutMs: config.udpGapTimeoutMs,
    receiveBufferBytes: askedBytes,
    maxFrameBytes: config.maxFrameBytes,
  });
  for (const { feed, address, receiveBufferBytes } of listener.lines) {
    logger.info(
      { feed },
      `receiving ${feed} on ${address}, receive buffer ${receiveBufferBytes ?? 'unknown'} bytes`,
    );
    if (receiveBufferBytes !== null && receiveBufferBytes < askedBytes) {
      logger.warn(
        `${address}: ${askedBytes} bytes of receive buffer were asked for, ${receiveBufferBytes} granted: ` +
          `bursts may be lost; raise the limit with: sysctl -w net.core.rmem_max=${askedBytes}`,
      );
    }
  }
  return listener;
}

/** Ends the input, makes it durable, acknowledges it, delivers what can be delivered before the deadline. */
async function drain(parts: RecorderParts, watch: Watch, deadlineMs: number): Promise<StopResult> {
  const { path, flusher, stream, datagram } = parts;
  const endMs = performance.now() + deadlineMs;
  const restMs = () => Math.max(0, endMs - performance.now());
  const inputMs = Math.min(INPUT_DRAIN_MS, deadlineMs);
  await Promise.all([stream?.drain(inputMs), datagram?.drain(inputMs)]);
  datagram?.close();
  stream?.pause();
  watch.stopRows();
  const durable = await path.flush(Math.max(LEAST_COMMIT_MS, restMs()));
  stream?.close();
  const undelivered = flusher === null ? null : await flusher.drain(restMs());
  return { durable, undelivered };
}
