// Text of HFT_RECORDER_UDP: which datagrams to receive. Pure.
//
//   feed  [, feed …]
//   feed  = [name=] line [| line]           a second line is the B line of the same feed
//   line  = host:port [?interface=ADDRESS] [&source=ADDRESS]
//
// An A line without options has those of its B line.
//
//   127.0.0.1:9100
//   itch=239.1.1.1:9100?interface=10.0.0.5|239.1.1.2:9100?interface=10.0.1.5
//   opra=232.1.1.1:9200?source=10.9.9.9, [::1]:9300

import { isIP, isIPv4 } from 'node:net';
import { RecorderError } from '../errors.ts';

/** One socket: a unicast address to bind, or a multicast group to join. */
export interface UdpLine {
  host: string;
  port: number;
  multicast: boolean;
  /** Address of the interface that joins the group; absent: the system's choice */
  interface?: string;
  /** Only datagrams of this sender are taken (source-specific join) */
  source?: string;
}

/** One or two lines that carry the same sessions; the first copy of a message wins. */
export interface UdpFeed {
  /** Becomes the column `source` of its rows */
  name: string;
  lines: UdpLine[];
}

export const DEFAULT_FEED_NAME = 'udp';
const SYNTAX =
  'expected [name=]host:port[?interface=ADDRESS&source=ADDRESS][|host:port…], feeds separated by commas';

const invalid = (text: string, problem: string): RecorderError =>
  new RecorderError('udp_endpoint_invalid', `UDP endpoint "${text}": ${problem}`, { hint: SYNTAX });

/** Parses the text; an empty text is no feed. Throws a RecorderError, code udp_endpoint_invalid. */
export function parseUdpEndpoints(text: string): UdpFeed[] {
  const feeds: UdpFeed[] = [];
  if (text.trim() === '') return feeds;
  for (const part of text.split(',')) {
    const feed = parseFeed(part.trim());
    if (feeds.some((other) => other.name === feed.name)) {
      throw invalid(part.trim(), `a second feed with the name "${feed.name}"; give each a name of its own`);
    }
    feeds.push(feed);
  }
  return feeds;
}

/** Shows a line as host:port. */
export function lineAddress(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function parseFeed(text: string): UdpFeed {
  if (text === '') throw invalid(text, 'empty');
  const named = /^([^=:?|[\]]*)=(.*)$/s.exec(text);
  const name = named === null ? DEFAULT_FEED_NAME : named[1]!.trim();
  if (!/^[\w.-]{1,64}$/.test(name)) {
    throw invalid(text, `feed name "${name}" must be 1 to 64 letters, digits, dots, dashes or underscores`);
  }
  const lines = (named === null ? text : named[2]!).split('|').map((line) => parseLine(line.trim(), text));
  if (lines.length > 2) throw invalid(text, 'a feed has one line or two (A and B)');
  const [a, b] = lines;
  if (b !== undefined && a!.multicast && a!.interface === undefined && a!.source === undefined) {
    if (b.interface !== undefined) a!.interface = b.interface;
    if (b.source !== undefined) a!.source = b.source;
  }
  return { name, lines };
}

function parseLine(text: string, whole: string): UdpLine {
  const question = text.indexOf('?');
  const address = question < 0 ? text : text.slice(0, question);
  const parts = /^(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(address);
  if (parts === null) throw invalid(whole, `"${address}" is not host:port`);
  const written = parts[1] ?? parts[2]!;
  const host = written === 'localhost' ? '127.0.0.1' : written === '*' ? '0.0.0.0' : written;
  if (isIP(host) === 0) throw invalid(whole, `host "${host}" is not an IP address, localhost or *`);
  const port = Number(parts[3]);
  if (port > 65_535) throw invalid(whole, `port ${parts[3]} is above 65535`);
  const line: UdpLine = { host, port, multicast: isMulticast(host) };
  if (question >= 0) readOptions(text.slice(question + 1), line, whole);
  return line;
}

function readOptions(text: string, line: UdpLine, whole: string): void {
  for (const [key, value] of new URLSearchParams(text)) {
    if (key !== 'interface' && key !== 'source') {
      throw invalid(whole, `unknown option "${key}", known are interface and source`);
    }
    if (!line.multicast) throw invalid(whole, `${key}= is for multicast groups, ${line.host} is none`);
    if (isIP(value) === 0) throw invalid(whole, `${key} "${value}" is not an IP address`);
    line[key] = value;
  }
}

function isMulticast(host: string): boolean {
  if (!isIPv4(host)) return /^ff/i.test(host);
  const first = Number(host.split('.')[0]);
  return first >= 224 && first <= 239;
}
