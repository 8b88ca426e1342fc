// The scraped metrics of a recorder, read from its parts when somebody asks.

import { readdirSync } from 'node:fs';
import { version } from '../../../package.json' with { type: 'json' };
import type { Sample, ScrapedMetric } from '../../observe/metrics.ts';
import type { FlusherStats } from '../../sink/flusher-types.ts';
import type { DiskGuard } from '../guards/disk-guard.ts';
import { DISK_LEVELS } from '../guards/disk-monitor.ts';
import type { WalUsage } from '../guards/wal-usage.ts';
import { HEALTH_STATES, type HealthTracker } from '../health/health.ts';
import type { RecorderParts } from '../recorder.ts';
import type { Lag } from './lag-tracker.ts';

const sample = (name: ScrapedMetric, value: number, labels?: Record<string, string>): Sample =>
  labels === undefined ? { name, value } : { name, value, labels };

/** The process, whatever it does. */
export function* processSamples(): Generator<Sample> {
  const { rss, heapUsed } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  yield sample('process_resident_memory_bytes', rss);
  yield sample('process_heap_bytes', heapUsed);
  yield sample('process_cpu_seconds_total', (user + system) / 1e6);
  yield sample('process_start_time_seconds', (Date.now() - performance.now()) / 1000);
  const openFiles = countOpenFiles();
  if (openFiles !== null) yield sample('process_open_fds', openFiles);
}

/** Age of a moment given in ns since 1970. */
export function ageSeconds(ns: bigint): number {
  return Math.max(0, Date.now() / 1000 - Number(ns / 1000n) / 1e6);
}

function countOpenFiles(): number | null {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return null;
  }
}

export function* buildSamples(recorder: string, walId: string, mode: string): Generator<Sample> {
  const labels = { version, bun: Bun.version, recorder, wal_id: walId, mode };
  yield sample('recorder_build_info', 1, labels);
}

export function* healthSamples(health: HealthTracker): Generator<Sample> {
  for (const state of HEALTH_STATES) {
    yield sample('recorder_health_state', Number(state === health.state), { state });
  }
  const held = new Map<string, Sample>();
  for (const { tag, state } of health.report().conditions) {
    held.set(`${tag}/${state}`, sample('recorder_health_condition', 1, { tag, state }));
  }
  yield* held.values();
  for (const [state, value] of health.transitions) {
    yield sample('recorder_health_transitions_total', value, { state });
  }
}

/** The WAL directory and its file system. */
export function* usageSamples(usage: WalUsage | null): Generator<Sample> {
  if (usage === null) return;
  yield sample('recorder_wal_bytes', usage.walBytes);
  yield sample('recorder_wal_segments', usage.segments);
  yield sample('recorder_dead_letters', usage.deadLetters);
  yield sample('recorder_disk_free_bytes', usage.freeBytes);
  yield sample('recorder_disk_size_bytes', usage.sizeBytes);
}

/** Disk pressure. */
export function* diskSamples(disk: DiskGuard): Generator<Sample> {
  for (const level of DISK_LEVELS)
    yield sample('recorder_disk_level', Number(level === disk.level), { level });
  for (const [level, value] of disk.changes)
    yield sample('recorder_disk_level_changes_total', value, { level });
  const stopped = disk.stopped();
  for (const [topic, policy] of disk.policies)
    yield sample('recorder_topic_stopped', Number(stopped.has(topic)), { topic, policy });
}

/** Delivery; nothing before the flusher has said anything. */
export function* flusherSamples(stats: FlusherStats): Generator<Sample> {
  for (const { topic, state, insertedRows, insertedGroups, deadRows, retries } of stats.topics) {
    yield sample('recorder_inserted_rows_total', Number(insertedRows), { topic });
    yield sample('recorder_insert_groups_total', insertedGroups, { topic });
    yield sample('recorder_dead_letter_rows_total', Number(deadRows), { topic });
    yield sample('recorder_insert_retries_total', retries, { topic });
    yield sample('recorder_flusher_state', 1, { topic, state });
  }
}

/** How far delivery is behind, for the topics that the flusher speaks of. */
export function* lagSamples(lagOf: (topic: string) => Lag, stats: FlusherStats): Generator<Sample> {
  const nowMs = Date.now();
  for (const { topic } of stats.topics) {
    const { rows, bytes, oldestMs } = lagOf(topic);
    yield sample('recorder_lag_rows', rows, { topic });
    yield sample('recorder_lag_bytes', bytes, { topic });
    const seconds = oldestMs === null ? 0 : Math.max(0, (nowMs - oldestMs) / 1000);
    yield sample('recorder_lag_seconds', seconds, { topic });
  }
}

/** Ingest and WAL. */
export function* ingestSamples(parts: RecorderParts, durableRows: readonly number[]): Generator<Sample> {
  const { path } = parts;
  const { ingest, wal, quarantine, streams } = path;
  for (const { model, index, received, logged, batch, waiting } of ingest.topics) {
    const { topic } = model;
    yield sample('recorder_received_rows_total', received, { topic });
    yield sample('recorder_logged_rows_total', logged, { topic });
    yield sample('recorder_durable_rows_total', durableRows[index] ?? 0, { topic });
    const held = [...waiting, batch];
    yield sample('recorder_buffered_rows', sumOf(held.map(({ rowCount }) => rowCount)), { topic });
    yield sample('recorder_buffered_bytes', sumOf(held.map(({ sizeBytes }) => sizeBytes)), { topic });
  }
  for (const { topic, cause, rows } of ingest.shedRows()) {
    yield sample('recorder_shed_rows_total', rows, { topic, cause });
  }
  for (const [reason, count] of ingest.malformedByReason) {
    yield sample('recorder_malformed_frames_total', count, { reason });
  }
  yield sample('recorder_streams', streams.size);
  yield sample('recorder_streams_paused', Number(path.isPaused));
  yield sample('recorder_memory_fill_ratio', path.memory.fill);
  yield sample('recorder_memory_limit_bytes', parts.config.memoryMaxBytes);
  yield sample('recorder_unsynced_bytes', path.unsyncedBytes);
  yield sample('recorder_next_lsn', Number(wal.nextLsn));
  yield sample('recorder_durable_lsn', Number(wal.durableLsn));
  yield sample('recorder_wal_writable', Number(wal.writable));
  yield sample('recorder_quarantine_bytes', quarantine.stats.sizeBytes);
}

/** The listeners that are there. */
export function* listenerSamples({ stream, datagram }: RecorderParts): Generator<Sample> {
  if (stream !== null) {
    const { connections, held, accepted, refused, brokenStreams, duplicates, bytes } = stream.stats;
    yield sample('recorder_connections', connections);
    yield sample('recorder_connections_held', held);
    yield sample('recorder_connections_total', accepted, { outcome: 'opened' });
    yield sample('recorder_connections_total', refused, { outcome: 'refused' });
    yield sample('recorder_connections_total', brokenStreams, { outcome: 'broken' });
    yield sample('recorder_duplicate_frames_total', duplicates, { source: 'unix' });
    yield sample('recorder_received_bytes_total', bytes, { source: 'unix' });
  }
  for (const [source, stats] of datagram?.stats ?? []) {
    yield sample('recorder_duplicate_frames_total', stats.duplicates, { source });
    yield sample('recorder_received_bytes_total', stats.bytes, { source });
    yield sample('recorder_udp_packets_total', stats.packets, { source });
    yield sample('recorder_gap_sequences_total', stats.missing, { source });
    yield sample('recorder_gap_filled_sequences_total', stats.filledLate, { source });
  }
  for (const { feed, address, kernelDrops } of datagram?.lines ?? []) {
    const drops = kernelDrops();
    if (drops !== null)
      yield sample('recorder_udp_kernel_drops_total', drops, { source: feed, line: address });
  }
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
