// Every metric of the program: name, help, labels. Nothing is declared anywhere else.
//
// Invariants
// - A registry belongs to one recorder or one loader; none is global.
// - Histograms are observed once a group of rows; everything else is read when somebody asks (`Sample`), so
//   no row pays for a metric.
// - Absent is not zero: a metric has samples only for what exists. A recorder without a flusher has no
//   sample of inserted rows or of lag, so an alert on their absence can fire.

// Its parts, not the package: what that loads besides (cluster, default metrics) takes 6 ms of every start.
import Counter from 'prom-client/lib/counter.js';
import Gauge from 'prom-client/lib/gauge.js';
import Histogram from 'prom-client/lib/histogram.js';
import Registry from 'prom-client/lib/registry.js';

/** One value of a metric that is read at scrape time. */
export interface Sample {
  name: ScrapedMetric;
  labels?: Record<string, string>;
  value: number;
}

type Declaration = readonly [help: string, labels?: readonly string[]];

/** Values that only rise within a process. */
const counters = {
  recorder_received_rows_total: ['Well-formed frames, shed ones included', ['topic']],
  recorder_logged_rows_total: ['Rows written into the WAL, durable or not', ['topic']],
  recorder_durable_rows_total: ['Rows that a sync has made durable', ['topic']],
  recorder_malformed_frames_total: ['Refused frames and broken framing; kept in the quarantine', ['reason']],
  recorder_duplicate_frames_total: ['Frames that were received before and recognised', ['source']],
  recorder_gap_sequences_total: ['Sequence numbers given up as missing', ['source']],
  recorder_gap_filled_sequences_total: ['Sequence numbers that came after they were given up', ['source']],
  recorder_shed_rows_total: ['Rows dropped on purpose: lost data', ['topic', 'cause']],
  recorder_sync_failures_total: ['Syncs of the WAL that failed'],
  recorder_inserted_rows_total: ['Rows delivered to ClickHouse since the flush log began', ['topic']],
  recorder_insert_groups_total: ['Insert groups delivered since the flush log began', ['topic']],
  recorder_insert_retries_total: ['Failed attempts to insert', ['topic']],
  recorder_dead_letter_rows_total: ['Rows that ClickHouse refused for good', ['topic']],
  recorder_connections_total: ['Connections to the Unix socket by what became of them', ['outcome']],
  recorder_received_bytes_total: ['Bytes read from sockets', ['source']],
  recorder_udp_packets_total: ['Datagrams received', ['source']],
  recorder_udp_kernel_drops_total: ['Datagrams that the kernel dropped: buffer full', ['source', 'line']],
  recorder_health_transitions_total: ['Changes of the health state', ['state']],
  recorder_disk_level_changes_total: ['Changes of the disk level', ['level']],
  process_cpu_seconds_total: ['CPU time of the process, user and system, seconds'],
} as const satisfies Record<string, Declaration>;

/** Values that rise and fall. */
const gauges = {
  recorder_build_info: [
    '1, with what is running as labels',
    ['version', 'bun', 'recorder', 'wal_id', 'mode'],
  ],
  recorder_health_state: ['1 for the current state, 0 for the others', ['state']],
  recorder_health_condition: ['1 while a condition holds', ['tag', 'state']],
  recorder_connections: ['Open connections to the Unix socket'],
  recorder_connections_held: ['Connections not read from, since they bring a topic that is stopped'],
  recorder_streams: ['Streams (source and session) known'],
  recorder_streams_paused: ['1 while stream producers are held back'],
  recorder_buffered_rows: ['Rows in memory that are not in the WAL', ['topic']],
  recorder_buffered_bytes: ['Bytes of rows in memory that are not in the WAL', ['topic']],
  recorder_memory_fill_ratio: ['Buffered rows or bytes as a share of their bound, the greater one'],
  recorder_memory_limit_bytes: ['Bound of buffered bytes'],
  recorder_unsynced_bytes: ['Bytes in the WAL that no sync has covered'],
  recorder_next_lsn: ['LSN of the next row'],
  recorder_durable_lsn: ['LSN of the first row that is not durable'],
  recorder_wal_writable: ['1 while the WAL has room for a block'],
  recorder_wal_bytes: ['Size of the WAL directory'],
  recorder_wal_segments: ['Segments in the WAL directory'],
  recorder_quarantine_bytes: ['Size of the quarantine'],
  recorder_dead_letters: ['Dead letters in the WAL directory'],
  recorder_disk_free_bytes: ['Free space of the file system that holds the WAL'],
  recorder_disk_size_bytes: ['Size of the file system that holds the WAL'],
  recorder_disk_level: ['1 for the current level, 0 for the others', ['level']],
  recorder_topic_stopped: [
    '1 while a topic is stopped for lack of disk space: dropped, or with policy block its producers wait',
    ['topic', 'policy'],
  ],
  recorder_lag_rows: ['Rows in the WAL that are not delivered', ['topic']],
  recorder_lag_bytes: ['Bytes in the WAL that are not delivered', ['topic']],
  recorder_lag_seconds: ['Age of the oldest row that is not delivered; 0: none', ['topic']],
  recorder_flusher_state: ['1 for the current state of a topic', ['topic', 'state']],
  process_resident_memory_bytes: ['Resident memory of the process'],
  process_heap_bytes: ['JavaScript heap in use'],
  process_open_fds: ['Open file descriptors'],
  process_start_time_seconds: ['Start of the process, seconds since 1970'],
} as const satisfies Record<string, Declaration>;

const SYNC_BUCKETS = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10];
const DELIVERY_BUCKETS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200, 86_400];

export type CounterName = keyof typeof counters;
export type GaugeName = keyof typeof gauges;
/** Metrics whose values are read at scrape time. */
export type ScrapedMetric = CounterName | GaugeName;

/** The metrics of one process. */
export interface Metrics {
  /** Receiving to durable, of the oldest row of each topic in a sync; seconds. */
  durable: Histogram<'topic'>;
  /** Receiving to inserted, of the oldest row of each insert group; seconds. */
  inserted: Histogram<'topic'>;
  /** Syncs of the WAL; seconds. */
  sync: Histogram;
  /** Deliveries of insert groups, retries included; seconds. */
  insert: Histogram<'topic'>;
  /** How much later than planned a timer ran; seconds. */
  loopDelay: Histogram;
  readonly contentType: string;
  /** The text that Prometheus reads, with these values of the scraped metrics. */
  expose(samples: Iterable<Sample>): Promise<string>;
}

/** Declares all metrics in a registry of their own. */
export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const scraped = new Map<string, Counter | Gauge>();
  for (const [name, [help, labels]] of Object.entries(counters) as [string, Declaration][]) {
    scraped.set(name, new Counter({ name, help, labelNames: labels ?? [], registers }));
  }
  for (const [name, [help, labels]] of Object.entries(gauges) as [string, Declaration][]) {
    scraped.set(name, new Gauge({ name, help, labelNames: labels ?? [], registers }));
  }
  const histogram = <L extends string>(name: string, help: string, buckets: number[], labelNames: L[]) =>
    new Histogram<L>({ name, help, buckets, labelNames, registers });
  return {
    durable: histogram(
      'recorder_durable_seconds',
      'From reading to durable, of the oldest row of a topic in a sync',
      SYNC_BUCKETS,
      ['topic'],
    ),
    inserted: histogram(
      'recorder_inserted_seconds',
      'From reading to inserted, of the oldest row of an insert group',
      DELIVERY_BUCKETS,
      ['topic'],
    ),
    sync: histogram('recorder_sync_seconds', 'Duration of a sync of the WAL', SYNC_BUCKETS, []),
    insert: histogram(
      'recorder_insert_seconds',
      'Duration of the delivery of an insert group, retries included',
      DELIVERY_BUCKETS,
      ['topic'],
    ),
    loopDelay: histogram('recorder_event_loop_delay_seconds', 'Lateness of a timer', SYNC_BUCKETS, []),
    contentType: registry.contentType,
    async expose(samples) {
      setSamples(registry, scraped, samples);
      return await registry.metrics();
    },
  };
}

/**
 * Gives the scraped metrics these values and no others; one without a value leaves the registry, since
 * prom-client shows a metric without labels as 0.
 */
function setSamples(
  registry: Registry,
  scraped: ReadonlyMap<string, Counter | Gauge>,
  samples: Iterable<Sample>,
): void {
  for (const metric of scraped.values()) metric.reset();
  const seen = new Set<string>();
  for (const { name, labels, value } of samples) {
    const metric = scraped.get(name)!;
    seen.add(name);
    if (labels === undefined) metric.inc(value);
    else metric.inc(labels, value);
  }
  for (const [name, metric] of scraped) {
    const isThere = registry.getSingleMetric(name) !== undefined;
    if (seen.has(name) && !isThere) registry.registerMetric(metric);
    else if (!seen.has(name) && isThere) registry.removeSingleMetric(name);
  }
}
