#!/usr/bin/env bash
# Debian packages that the tests use as independent oracles: flatc, C++ and Python FlatBuffers, an old ClickHouse,
# promtool.
# Installs what is missing where it can (root on Debian); elsewhere says what is missing: the tests that need it are
# then skipped, each with a line that says so.
set -uo pipefail

missing=()
command -v flatc >/dev/null || missing+=(flatbuffers-compiler)
command -v g++ >/dev/null || missing+=(g++)
[ -e /usr/include/flatbuffers/flatbuffers.h ] || missing+=(libflatbuffers-dev)
/usr/bin/python3 -c 'import flatbuffers' 2>/dev/null || missing+=(python3-flatbuffers)
command -v clickhouse-server >/dev/null || missing+=(clickhouse-server)
command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
command -v promtool >/dev/null || missing+=(prometheus)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null && exit 0
  echo "could not install: ${missing[*]}" >&2
fi
echo "missing Debian packages, tests that need them are skipped: ${missing[*]}" >&2
