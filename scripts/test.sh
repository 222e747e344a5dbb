#!/bin/sh
# Usage: test.sh [rust | postgres | tasks | clients | page [--screenshot]]     (default: all but postgres, which is the server's own tests
# once more, on Postgres behind PgBouncer)
set -eu
cd "$(dirname "$0")/.."
scripts/need.sh cargo cc python3

target="${CARGO_TARGET_DIR:-target}"
part="${1:-all}"
[ $# -gt 0 ] && shift

# An operator's own settings must not reach the tests.
for name in $(env | cut -d= -f1 | grep -E '^(ISH_|OPENAI_|ANTHROPIC_|GEMINI_|GOOGLE_GEMINI_|OLLAMA_|DATABASE_|REDIS_|CACHE_TTL|EMBEDDING_|QUERY_|HTTP_MAX_CONNECTIONS|MAX_PARALLEL_EMBEDDINGS|INSTANCE_ID|ENABLE_|MONITORING_|RESPONSE_TIME_THRESHOLD|ERROR_RATE_THRESHOLD|MEMORY_THRESHOLD|CPU_THRESHOLD|DISK_THRESHOLD)' | grep -vE '^ISH_TEST_' || true); do
  unset "$name"
done

build() {
  cargo build --locked -p ish --features failpoints
  cargo build --locked -p loadtest
}

# Those that run already are used, and left.
with_services() {
  if [ -f .services/env ] && scripts/services.sh running; then return; fi
  trap 'scripts/services.sh stop' EXIT
  trap 'exit 130' INT TERM
  scripts/services.sh start
}

rust() {
  with_services
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --workspace --features failpoints
  else
    cargo test --locked --workspace --features failpoints --lib --bins --tests
  fi
  cargo test --locked --doc -p ish
}

postgres() {
  with_services
  if cargo nextest --version >/dev/null 2>&1; then
    ISH_TEST_STORE=postgres cargo nextest run --locked -p ish --features failpoints --test it
  else
    ISH_TEST_STORE=postgres cargo test --locked -p ish --features failpoints --test it
  fi
}

# A few rounds of what `make soak` plays in full; kills the servers, so that nothing else may use them meanwhile.
tasks() {
  with_services
  cargo build --locked -p ish --features failpoints --example errands
  for store in postgres sqlite; do
    python3 tests/soak/tasks.py --errands-bin "$target/debug/examples/errands" --store "$store" --rounds 10 --errands 60 --state "$target/test-tasks"
  done
}

clients() {
  build
  python3 tests/clients/run.py --ish-bin "$(realpath "$target/debug/ish")" --provider-bin "$(realpath "$target/debug/loadtest")"
}

page() {
  build
  cargo build --locked -p ish --features failpoints --example mail
  scripts/setup.sh browser
  node="$(scripts/setup.sh node)"
  scripts/setup.sh packages tests/page
  "$node" tests/page/run.mjs --ish-bin "$target/debug/ish" --provider-bin "$target/debug/loadtest" \
    --mail-bin "$target/debug/examples/mail" "$@"
}

case "$part" in
  all) rust; tasks; clients; page ;;
  rust | postgres | tasks | clients | page) "$part" "$@" ;;
  *) echo "test.sh: $part is none of rust, postgres, tasks, clients, page" >&2; exit 2 ;;
esac
