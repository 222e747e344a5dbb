#!/bin/sh
# Several instances on one Postgres behind PgBouncer, with Redis: 1,000 people at once over WebSockets through nginx on two of them, who
# ask a provider that takes a set time, then the built-in demo; and what three instances serve against one. The reports go to
# docs/reports/ (a later `--reports FOLDER` wins). Takes about six minutes; run it on a quiet machine, with release builds.
# Usage: instances.sh ISH LOADTEST [users | demo | scale] [arguments of that verb of loadtest]
set -eu
cd "$(dirname "$0")/.."
ish="$1" loadtest="$2"
shift 2
if scripts/services.sh running; then
  echo "instances.sh: the servers that run are set up for tests: \`make services-stop\` first" >&2
  exit 1
fi
trap 'scripts/services.sh stop' EXIT
trap 'exit 130' INT TERM
# Unlike for tests, what is committed is on the disk, and PgBouncer has as many connections as pgbouncer/pgbouncer.ini gives it.
POSTGRES_OPTIONS="-c fsync=on -c full_page_writes=on -c shared_buffers=512MB" PGBOUNCER_POOL_SIZE=50 scripts/services.sh start

play() {
  python3 tests/soak/instances.py --ish-bin "$ish" --loadtest-bin "$loadtest" "$@"
}
users() { play --instances 2 --pace 300 25 users --reports docs/reports --model mock --first-token-ms 300 --per-token-ms 25 "$@"; }
# What src/providers/demo.rs takes.
demo() { play --instances 2 users --reports docs/reports --model demo --first-token-ms 350 --per-token-ms 25 "$@"; }
scale() { play --instances 3 scale --reports docs/reports "$@"; }

if [ $# -gt 0 ]; then
  "$@"
else
  failed=0
  for verb in users demo scale; do "$verb" || failed=1; done
  exit "$failed"
fi
