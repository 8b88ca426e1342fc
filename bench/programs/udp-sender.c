/* Sends MoldUDP64 datagrams over loopback as fast as the kernel takes them, or at a rate.
 *
 *   udp-sender PORT FRAMES SESSION DATAGRAMS MESSAGES RATE
 *
 * FRAMES: file of size-prefixed frames, sent in turn. MESSAGES: frames a datagram. RATE: datagrams a second,
 * 0: no bound. Prints one line of JSON: {"datagrams","seconds"}. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 32, MAX_DATAGRAM = 65507 };
static unsigned char datagrams[BATCH][MAX_DATAGRAM];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 7) return 2;
  FILE *file = fopen(argv[2], "rb");
  if (!file) fail(argv[2]);
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  rewind(file);
  unsigned char *frames = malloc(size);
  if (fread(frames, 1, size, file) != (size_t)size) fail("read");
  char session[11];
  snprintf(session, sizeof session, "%-10s", argv[3]);
  long total = atol(argv[4]), messages = atol(argv[5]);
  double rate = atof(argv[6]);

  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) fail("connect");

  struct mmsghdr headers[BATCH];
  struct iovec parts[BATCH];
  memset(headers, 0, sizeof headers);
  for (int i = 0; i < BATCH; i++) {
    memcpy(datagrams[i], session, 10);
    parts[i].iov_base = datagrams[i];
    headers[i].msg_hdr.msg_iov = &parts[i];
    headers[i].msg_hdr.msg_iovlen = 1;
  }
  uint64_t sequence = 1;
  long at = 0;
  double start = now();
  for (long sent = 0; sent < total;) {
    int count = total - sent < BATCH ? total - sent : BATCH;
    if (rate > 0)
      while (now() < start + sent / rate);
    for (int i = 0; i < count; i++) {
      uint64_t big = htobe64(sequence);
      uint16_t messageCount = htons(messages);
      memcpy(datagrams[i] + 10, &big, 8);
      memcpy(datagrams[i] + 18, &messageCount, 2);
      long length = 20;
      for (long m = 0; m < messages; m++) {
        uint32_t frameBytes;
        memcpy(&frameBytes, frames + at, 4);
        uint16_t block = htons(frameBytes);
        memcpy(datagrams[i] + length, &block, 2);
        memcpy(datagrams[i] + length + 2, frames + at + 4, frameBytes);
        length += 2 + frameBytes;
        at = at + 4 + frameBytes == size ? 0 : at + 4 + frameBytes;
      }
      parts[i].iov_len = length;
      sequence += messages;
    }
    for (int done = 0; done < count;) {
      int n = sendmmsg(fd, headers + done, count - done, 0);
      if (n < 0) fail("sendmmsg");
      done += n;
    }
    sent += count;
  }
  printf("{\"datagrams\":%ld,\"seconds\":%.6f}\n", total, now() - start);
  return 0;
}
