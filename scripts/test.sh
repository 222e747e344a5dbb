#!/bin/sh
# Usage: test.sh [rust | clients | page [--screenshot]]     (default: all)
set -eu
cd "$(dirname "$0")/.."
scripts/need.sh cargo cc python3

target="${CARGO_TARGET_DIR:-target}"
part="${1:-all}"
[ $# -gt 0 ] && shift

# An operator's own settings must not reach the tests.
for name in $(env | cut -d= -f1 | grep -E '^(ISH_|OPENAI_|ANTHROPIC_|GEMINI_|GOOGLE_GEMINI_|OLLAMA_|DATABASE_|REDIS_|CACHE_TTL|EMBEDDING_|QUERY_|HTTP_MAX_CONNECTIONS|MAX_PARALLEL_EMBEDDINGS|INSTANCE_ID|ENABLE_)' | grep -vE '^ISH_TEST_' || true); do
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

clients() {
  build
  python3 tests/clients/run.py --ish-bin "$(realpath "$target/debug/ish")" --provider-bin "$(realpath "$target/debug/loadtest")"
}

page() {
  build
  scripts/setup.sh browser
  node="$(scripts/setup.sh node)"
  scripts/setup.sh packages tests/page
  "$node" tests/page/run.mjs --ish-bin "$target/debug/ish" --provider-bin "$target/debug/loadtest" "$@"
}

case "$part" in
  all) rust; clients; page ;;
  rust | clients | page) "$part" "$@" ;;
  *) echo "test.sh: $part is none of rust, clients, page" >&2; exit 2 ;;
esac
