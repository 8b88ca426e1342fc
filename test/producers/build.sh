#!/bin/sh
# Makes the foreign producers runnable in the directory $1: flatc's classes, and the C++ program.
# A second argument `python` leaves the C++ program out.
set -eu
out=${1:?usage: build.sh OUT [python]}
here=$(cd "$(dirname "$0")" && pwd)
schemas=$(cd "$here/../../schemas" && pwd)
mkdir -p "$out/cpp" "$out/python"
flatc --python -o "$out/python" -I "$schemas" "$schemas"/*.fbs
[ "${2:-all}" = python ] && exit 0
flatc --cpp -o "$out/cpp" -I "$schemas" "$schemas"/*.fbs
g++ -std=c++17 -O1 -Wall -Wextra -I "$out/cpp" -o "$out/producer" "$here/producer.cpp"
