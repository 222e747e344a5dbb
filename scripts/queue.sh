#!/bin/sh
# The task queue's figures (benches/tasks), on a Postgres behind PgBouncer that keeps what it is told, beside graphile_worker on the same
# one, directly connected. Takes about five minutes; run it on a quiet machine.
# Usage: queue.sh [--tasks N] [--rounds N]
set -eu
cd "$(dirname "$0")/.."
if scripts/services.sh running; then
  echo "queue.sh: the servers that run are set up for tests: \`make services-stop\` first" >&2
  exit 1
fi
target="${CARGO_TARGET_DIR:-$PWD/target}"
# A workspace of its own, with its own lock file.
cargo build --release --locked --manifest-path benches/graphile/Cargo.toml --target-dir "$target/graphile"
cargo bench --locked -p ish --bench tasks --no-run
trap 'scripts/services.sh stop' EXIT
trap 'exit 130' INT TERM
# As scripts/instances.sh has them; PgBouncer with as many connections as the queue may use.
POSTGRES_OPTIONS="-c fsync=on -c full_page_writes=on -c shared_buffers=512MB" PGBOUNCER_POOL_SIZE=16 scripts/services.sh start
cargo bench --locked -p ish --bench tasks -- --peer "$(realpath "$target/graphile/release/graphile-peer")" "$@"
