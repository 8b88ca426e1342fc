// What can be wrong, in the words of an operator: one place for the texts and for the command that helps.
// docs/OPERATIONS.md has a paragraph for every tag.

import type { Cause } from './health.ts';

/** Makes the causes; their commands name this WAL and this server. */
export class HealthCauses {
  readonly #walDir: string;
  readonly #clickhouseUrl: string;

  constructor(walDir: string, clickhouseUrl: string) {
    this.#walDir = walDir;
    this.#clickhouseUrl = clickhouseUrl;
  }

  unreachable(message: string): Cause {
    return {
      tag: 'clickhouse_unreachable',
      subject: '',
      message: `ClickHouse does not take rows; they wait in the WAL: ${message}`,
      command: `curl -sS ${this.#clickhouseUrl}/ping`,
    };
  }

  refused(topic: string, message: string): Cause {
    return {
      tag: 'insert_refused',
      subject: topic,
      message: `ClickHouse refuses rows of ${topic}: ${message}`,
      command: `recorder schema ddl --topic ${topic}`,
    };
  }

  blocked(topic: string, message: string): Cause {
    return {
      tag: 'table_blocked',
      subject: topic,
      message: `${topic} cannot be delivered; its rows wait in the WAL: ${message}`,
      command: `recorder schema ddl --topic ${topic}`,
    };
  }

  noRoomToDeliver(message: string): Cause {
    return {
      tag: 'delivery_no_room',
      subject: '',
      message: `the disk has no room for the flusher's own files; rows wait in the WAL: ${message}`,
      command: 'df -h',
    };
  }

  flusherStopped(topic: string, message: string): Cause {
    return {
      tag: 'flusher_stopped',
      subject: topic,
      message: `the flusher stopped; rows wait in the WAL: ${message}`,
      command: 'systemctl restart recorder',
    };
  }

  deadLetters(count: number): Cause {
    return {
      tag: 'dead_letters',
      subject: '',
      message: `${count} insert groups were refused for good and are kept in ${this.#walDir}/dead-letter`,
      command: `ls ${this.#walDir}/dead-letter`,
    };
  }

  unreadable(segment: string, reason: string): Cause {
    return {
      tag: 'wal_damage',
      subject: segment,
      message: `rows of ${segment} cannot be read: ${reason}`,
      command: `recorder wal verify ${this.#walDir}`,
    };
  }

  walUnwritable(reason: string): Cause {
    return {
      tag: 'wal_unwritable',
      subject: '',
      message: `the WAL takes no rows; producers are held back: ${reason}`,
      command: `df -h ${this.#walDir}`,
    };
  }

  syncFailed(reason: string): Cause {
    return {
      tag: 'sync_failed',
      subject: '',
      message: `the disk did not make rows durable; they are not acknowledged: ${reason}`,
      command: 'dmesg | tail -50',
    };
  }

  syncStalled(seconds: number): Cause {
    return {
      tag: 'sync_stalled',
      subject: '',
      message: `a sync of the WAL has not ended for ${seconds} s`,
      command: 'iostat -x 1 5',
    };
  }

  shed(topic: string, cause: string): Cause {
    const why = cause === 'memory' ? 'memory was at its bound' : 'the disk has no room for this topic';
    return {
      tag: 'rows_shed',
      subject: `${topic}/${cause}`,
      message: `rows of ${topic} were dropped: ${why}`,
      command: cause === 'memory' ? 'recorder config' : `df -h ${this.#walDir}`,
    };
  }

  gap(source: string): Cause {
    return {
      tag: 'sequence_gap',
      subject: source,
      message: `sequence numbers of ${source} never came; they are rows of the table gaps`,
      command: 'netstat -su | grep -i err',
    };
  }

  kernelDrops(line: string): Cause {
    return {
      tag: 'kernel_drops',
      subject: line,
      message: `the kernel drops datagrams of ${line}: the receive buffer is full`,
      command: 'sysctl -w net.core.rmem_max=67108864',
    };
  }

  memoryPressure(percent: number): Cause {
    return {
      tag: 'memory_pressure',
      subject: '',
      message: `rows come faster than the disk takes them: ${percent} % of HFT_MEMORY_MAX_BYTES is in use`,
      command: 'iostat -x 1 5',
    };
  }

  disk(level: string, why: string): Cause {
    return {
      tag: 'disk_pressure',
      subject: '',
      message: `disk level ${level}: ${why}`,
      command: `df -h ${this.#walDir}`,
    };
  }

  quarantineFailed(reason: string): Cause {
    return {
      tag: 'quarantine_failed',
      subject: '',
      message: `refused frames are counted and not kept: ${reason}`,
      command: `ls -l ${this.#walDir}`,
    };
  }

  lagging(topics: readonly string[], seconds: number): Cause {
    return {
      tag: 'delivery_lag',
      subject: '',
      message: `rows of ${topics.join(', ')} wait to be delivered, the oldest for ${seconds} s`,
      command: 'recorder reconcile',
    };
  }
}
