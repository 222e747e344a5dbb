#!/bin/sh
# Speed, in one run: the server beside a do-nothing proxy and a fixed reply, how soon upstream calls end that a client gives
# up, what a reader that stops costs the others, the index and the embedder by themselves; then, on a Postgres behind PgBouncer with a
# Redis, a thousand people on two instances, three instances against one, the task queue, and look-ups by tier. Takes about three quarters of an
# hour; run it on a quiet machine.
set -eu
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
cargo build --release --locked -p loadtest
"$target/release/loadtest" compare --ish-bin "$target/release/ish" "$@"
"$target/release/loadtest" cancel --ish-bin "$target/release/ish"
"$target/release/loadtest" slow-reader --ish-bin "$target/release/ish" --reports docs/reports
cargo bench --locked -p ish --bench index --bench matching --bench endpoint
failed=0
if scripts/services.sh running; then
  echo "bench: several instances are left out: the servers that run are set up for tests (\`make services-stop\` ends them)" >&2
else
  # A target that is missed is said, and the rest is measured all the same.
  scripts/instances.sh "$(realpath "$target/release/ish")" "$(realpath "$target/release/loadtest")" || failed=1
  scripts/queue.sh || failed=1
  trap 'scripts/services.sh stop' EXIT
  trap 'exit 130' INT TERM
  scripts/services.sh start
fi
cargo bench --locked -p ish --bench tiers
exit "$failed"
