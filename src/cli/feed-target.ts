// Where `recorder feed` sends to, from its flags.

import type { Command } from 'commander';
import { FeedError } from '../feed/feed-error.ts';
import { type FrameSender, openSocketSender, openUdpSender } from '../feed/frame-sender.ts';
import { parseUdpEndpoints } from '../net/udp-endpoint.ts';
import type { FeedFlags } from './feed.ts';
import { configOf } from './options.ts';

const MOLD_SESSION_CHARS = 10;
const WAITING_NOTE_MS = 1000;

/** A checked target; nothing is connected yet. */
export interface FeedTarget {
  source: string;
  session: string | null;
  open(): Promise<FrameSender>;
  /** For messages. */
  description: string;
}

/**
 * Reads the target from the flags and the settings.
 * @throws FeedError for flags that do not fit together, ConfigError for wrong settings
 */
export function targetOf(feed: string, flags: FeedFlags, command: Command): FeedTarget {
  const source = flags.source ?? `feed-${feed}`;
  return flags.udp === undefined ? socketTarget(source, flags, command) : udpTarget(source, flags.udp, flags);
}

function socketTarget(source: string, flags: FeedFlags, command: Command): FeedTarget {
  const onlyUdp = { 'drop-rate': flags.dropRate, 'drop-every': flags.dropEvery, interface: flags.interface };
  for (const [name, value] of Object.entries(onlyUdp)) {
    if (value !== undefined) throw new FeedError('feed_usage', `--${name} is for --udp only`);
  }
  const path = configOf(command).socketPath;
  if (path === '')
    throw new FeedError('feed_usage', 'nowhere to send to', {
      hint: 'pass --socket PATH or --udp HOST:PORT',
    });
  const session = flags.ack ? (flags.session ?? crypto.randomUUID()) : null;
  if (session === null && flags.session !== undefined)
    throw new FeedError('feed_usage', '--no-ack has no session', { hint: 'leave out --session or --no-ack' });
  return {
    source,
    session,
    description: path,
    open: () =>
      openSocketSender({
        path,
        session: session === null ? null : { source, session },
        connectTimeoutMs: flags.connectTimeout,
        ackTimeoutMs: flags.ackTimeout,
      }),
  };
}

function udpTarget(source: string, text: string, flags: FeedFlags): FeedTarget {
  const [feed, more] = parseUdpEndpoints(text);
  if (feed === undefined || more !== undefined)
    throw new FeedError('feed_usage', `--udp ${text}: expected HOST:PORT or HOST:PORT|HOST:PORT`);
  const session = flags.session ?? crypto.randomUUID().replaceAll('-', '').slice(0, MOLD_SESSION_CHARS);
  if (session.length > MOLD_SESSION_CHARS)
    throw new FeedError('feed_usage', `--session ${session}: a UDP session has at most 10 characters`);
  return {
    source,
    session,
    description: text,
    open: () =>
      openUdpSender({
        lines: feed.lines,
        session,
        seed: flags.seed,
        ...(flags.dropRate === undefined ? {} : { dropRate: flags.dropRate }),
        ...(flags.dropEvery === undefined ? {} : { dropEvery: flags.dropEvery }),
        ...(flags.datagramsPerSecond === undefined ? {} : { datagramsPerSecond: flags.datagramsPerSecond }),
        ...(flags.interface === undefined ? {} : { interface: flags.interface }),
      }),
  };
}

/** Connects; says so when it takes long. */
export async function openSender(target: FeedTarget): Promise<FrameSender> {
  const timer = setTimeout(() => {
    process.stderr.write(`feed: waiting for a recorder at ${target.description}\n`);
  }, WAITING_NOTE_MS);
  try {
    return await target.open();
  } finally {
    clearTimeout(timer);
  }
}
