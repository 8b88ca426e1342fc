#!/bin/sh
# Makes the secrets of compose.yml where they are not there yet. Compose mounts the files as they are: the containers'
# users must be able to read them, so the folder is what keeps others of this host away.
set -eu
folder="$(dirname "$0")/secrets"
mkdir -p "$folder"
chmod 0700 "$folder"
for name in http-token clickhouse-password grafana-password; do
  [ -s "$folder/$name" ] || head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$folder/$name"
  chmod 0444 "$folder/$name"
done
