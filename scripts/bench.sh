#!/bin/sh
# Speed, in one run: the server beside a do-nothing proxy and a fixed reply, how soon upstream calls end that a client gives
# up, what a reader that stops costs the others, then the index and the embedder by themselves. Takes about a quarter of an
# hour; run it on a quiet machine.
set -eu
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
cargo build --release --locked -p loadtest
"$target/release/loadtest" compare --ish-bin "$target/release/ish" "$@"
"$target/release/loadtest" cancel --ish-bin "$target/release/ish"
"$target/release/loadtest" slow-reader --ish-bin "$target/release/ish" --reports docs/reports
cargo bench --locked -p ish --bench index --bench matching
if scripts/services.sh running; then
  cargo bench --locked -p ish --bench tiers
else
  echo "bench: look-ups by tier are left out: \`make services\` starts the Postgres that they need" >&2
fi
