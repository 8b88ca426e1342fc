#!/usr/bin/env bash
# The test command: set-up, types, formatter and linter, audit of dependencies, tests. Ends with a line
# "N passed, N failed".
# Arguments go to `bun test`, for example: bun run test test/wal
set -uo pipefail
cd "$(dirname "$0")/.."

bun install --frozen-lockfile --silent || exit 1
bash test/support/system-packages.sh || exit 1

output=$(mktemp)
trap 'rm -f "$output"' EXIT
failed_checks=0
for check in typecheck lint audit; do
  bun run --silent "$check" || failed_checks=$((failed_checks + 1))
done

bun test --timeout 300000 "$@" 2>&1 | tee "$output"
status=${PIPESTATUS[0]}

count() { awk -v word="$1" '$1 ~ /^[0-9]+$/ && $2 == word && NF == 2 { n = $1 } END { print n + 0 }' "$output"; }
passed=$(count pass)
failed=$(count fail)
skipped=$(count skip)
failed=$((failed + failed_checks))
passed=$((passed + 3 - failed_checks))
# A run that dies (or a hook that fails outside a test) counts even though no test says so.
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
