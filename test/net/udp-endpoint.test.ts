import { describe, expect, test } from 'bun:test';
import { lineAddress, parseUdpEndpoints } from '../../src/net/udp-endpoint.ts';

describe('parseUdpEndpoints', () => {
  test.each([
    ['', []],
    ['  ', []],
    ['127.0.0.1:9100', [{ name: 'udp', lines: [{ host: '127.0.0.1', port: 9100, multicast: false }] }]],
    ['localhost:0', [{ name: 'udp', lines: [{ host: '127.0.0.1', port: 0, multicast: false }] }]],
    ['x=*:1', [{ name: 'x', lines: [{ host: '0.0.0.0', port: 1, multicast: false }] }]],
    ['[::1]:9300', [{ name: 'udp', lines: [{ host: '::1', port: 9300, multicast: false }] }]],
    ['v6=[ff02::1]:7', [{ name: 'v6', lines: [{ host: 'ff02::1', port: 7, multicast: true }] }]],
    [
      'itch=239.1.1.1:9100?interface=10.0.0.5|239.1.1.2:9100?interface=10.0.1.5' +
        ', 224.0.0.9:1?source=10.9.9.9&interface=10.0.0.1',
      [
        {
          name: 'itch',
          lines: [
            { host: '239.1.1.1', port: 9100, multicast: true, interface: '10.0.0.5' },
            { host: '239.1.1.2', port: 9100, multicast: true, interface: '10.0.1.5' },
          ],
        },
        {
          name: 'udp',
          lines: [{ host: '224.0.0.9', port: 1, multicast: true, source: '10.9.9.9', interface: '10.0.0.1' }],
        },
      ],
    ],
    [
      '239.1.1.1:1|239.1.1.2:2?interface=10.0.0.5',
      [
        {
          name: 'udp',
          lines: [
            { host: '239.1.1.1', port: 1, multicast: true, interface: '10.0.0.5' },
            { host: '239.1.1.2', port: 2, multicast: true, interface: '10.0.0.5' },
          ],
        },
      ],
    ],
  ])('reads "%s"', (text, expected) => {
    expect(parseUdpEndpoints(text)).toEqual(expected as ReturnType<typeof parseUdpEndpoints>);
  });

  test.each([
    ['127.0.0.1', 'not host:port'],
    ['127.0.0.1:', 'not host:port'],
    ['127.0.0.1:70000', 'above 65535'],
    ['example.com:80', 'not an IP address'],
    ['300.1.1.1:80', 'not an IP address'],
    ['::1:80', 'not host:port'],
    ['a b=1.2.3.4:5', 'feed name "a b"'],
    ['=1.2.3.4:5', 'feed name ""'],
    ['1.2.3.4:5,', 'empty'],
    ['1.2.3.4:5|', 'not host:port'],
    ['1.2.3.4:5|1.2.3.4:6|1.2.3.4:7', 'one line or two'],
    ['1.2.3.4:5,1.2.3.4:6', 'second feed with the name "udp"'],
    ['1.2.3.4:5?interface=1.1.1.1', '1.2.3.4 is none'],
    ['239.1.1.1:5?iface=1.1.1.1', 'unknown option "iface"'],
    ['239.1.1.1:5?interface=eth0', 'interface "eth0" is not an IP address'],
  ])('refuses "%s" and says why', (text, problem) => {
    expect(() => parseUdpEndpoints(text)).toThrow(
      expect.objectContaining({ code: 'udp_endpoint_invalid', message: expect.stringContaining(problem) }),
    );
  });

  test('shows addresses as they are written', () => {
    expect(lineAddress('1.2.3.4', 5)).toBe('1.2.3.4:5');
    expect(lineAddress('::1', 5)).toBe('[::1]:5');
  });
});
