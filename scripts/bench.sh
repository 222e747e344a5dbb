#!/bin/sh
# The standard set, in about twenty minutes: a server beside a do-nothing proxy and a fixed reply, load at a fixed rate, users step by step,
# questions in several wordings, overload, idle sockets with streams, its start; then, by themselves, calls that are given up, the index and the embedder. Every target that was
# measured stands in one table, which docs/reports/bench-DATE.json keeps. Run it on a quiet machine.
# With `servers` instead: several instances on a Postgres behind PgBouncer with a Redis, the task queue, and look-ups by tier (half an hour).
# Exit status: 1 where a target is missed.
# Usage: bench.sh [servers] [arguments of `loadtest compare`]
set -eu
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
cargo build --release --locked -p loadtest
ish="$(realpath "$target/release/ish")" loadtest="$(realpath "$target/release/loadtest")"
failed=0

if [ "${1:-}" = servers ]; then
  if scripts/services.sh running; then
    echo "bench.sh: the servers that run are set up for tests: \`make services-stop\` first" >&2
    exit 2
  fi
  # A target that is missed is said, and the rest is measured all the same.
  scripts/instances.sh "$ish" "$loadtest" || failed=1
  scripts/queue.sh || failed=1
  trap 'scripts/services.sh stop' EXIT
  trap 'exit 130' INT TERM
  scripts/services.sh start
  cargo bench --locked -p ish --bench tiers
  exit "$failed"
fi

parts="$(mktemp -d)"
trap 'rm -rf "$parts"' EXIT
trap 'exit 130' INT TERM
# A verb of loadtest, under a name of its own. A target that is missed is said in the whole table; what cannot be measured ends the run.
part() {
  name="$1" verb="$2"
  shift 2
  echo "== $name" >&2
  "$loadtest" "$verb" --ish-bin "$ish" --reports "$parts" --as "$name" "$@" || [ $? -eq 1 ]
}

part compare compare "$@"
part load-pass load --ask pass --users 16 --rate 1000 --seconds 40
part load-pass-stream load --ask pass --stream --users 16 --rate 200 --seconds 40
part load-pass-stream-paced load --ask pass --stream --users 64 --rate 100 --seconds 40 --first-token-ms 50 --per-token-ms 10
part load load --users 100 --rate 500 --seconds 60
part stress stress --step-users 200 --seconds 20
part cache cache --seconds 60
part overload overload --seconds 60 --peak-seconds 15
part sockets sockets --seconds 40
python3 scripts/measure_start.py "$ish" --reports "$parts"
"$loadtest" cancel --ish-bin "$ish"
"$loadtest" slow-reader --ish-bin "$ish" --rounds 2 || failed=1
cargo bench --locked -p ish --bench index --bench matching --bench endpoint
"$loadtest" gather "$parts" --reports docs/reports --commit "$(git rev-parse --short HEAD 2>/dev/null || true)" || failed=1
exit "$failed"
