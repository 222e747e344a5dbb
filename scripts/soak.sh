#!/bin/sh
# The full counts of the fault tests: 100 rounds of kill -9 under 200 clients and of crashes between commit and acknowledgement, and a
# trace of one send. Can be stopped and run again. The reports go to docs/reports/.
set -eu
cd "$(dirname "$0")/.."
scripts/need.sh cargo cc python3

target="${CARGO_TARGET_DIR:-target}"
cargo build --locked -p ish --features failpoints
cargo build --locked -p loadtest
# A copy: a build that goes on meanwhile must not change the program that is being killed.
mkdir -p "$target/soak-bin"
cp "$target/debug/ish" "$target/debug/loadtest" "$target/soak-bin/"

python3 tests/soak/soak.py --ish-bin "$target/soak-bin/ish" --provider-bin "$target/soak-bin/loadtest" --state "$target/soak" "$@"
if command -v strace >/dev/null 2>&1; then
  python3 tests/soak/trace_ack.py --ish-bin "$target/soak-bin/ish"
else
  echo "soak: strace is not there, so no send is traced" >&2
fi
