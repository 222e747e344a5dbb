#!/bin/sh
# The full counts of the fault tests: 100 rounds of kill -9 under 200 clients and of crashes between commit and
# acknowledgement, 100 providers that die in mid-answer, answers learned, evicted and moved over three instances, 100,000
# requests of 20 tenants, half a minute without Redis, Postgres restarted and PgBouncer killed, three instances restarted in turn ten times, 12,000 tasks while their workers and all servers are killed, workflows killed at every boundary of every step, a trace of one send, and thousands of requests made from the server's
# own description. Can be stopped and run again. The reports go to docs/reports/.
set -eu
cd "$(dirname "$0")/.."
scripts/need.sh cargo cc python3

target="${CARGO_TARGET_DIR:-target}"
cargo build --locked -p ish --features failpoints --bins --example errands
cargo build --locked -p loadtest
# A copy: a build that goes on meanwhile must not change the program that is being killed.
mkdir -p "$target/soak-bin"
cp "$target/debug/ish" "$target/debug/loadtest" "$target/debug/examples/errands" "$target/soak-bin/"

# So many rounds of a test, whose report is kept.
play() {
  ISH_TEST_ROUNDS="$1" ISH_REPORT_DIR="$PWD/docs/reports" cargo test --locked -p ish --features failpoints --test it -- "$2"
}
play 100 midstream::one_dies
play 7 workflows::a_process_killed_at_a_boundary_goes_on

# Several instances on one Postgres behind PgBouncer, with one Redis.
if ! scripts/services.sh running; then
  trap 'scripts/services.sh stop' EXIT
  trap 'exit 130' INT TERM
  scripts/services.sh start
fi
play 200 learned::
play 100 moving::
play 7 workflows::a_process_killed_at_a_boundary_is_followed
# Half an hour, or more.
play 5000 tenants::
ISH_TEST_OUTAGE_S=30 play 1 redis_outage::
python3 tests/soak/outage.py --ish-bin "$target/soak-bin/ish" --provider-bin "$target/soak-bin/loadtest" --report docs/reports
python3 tests/soak/rolling.py --ish-bin "$target/soak-bin/ish" --provider-bin "$target/soak-bin/loadtest" --report docs/reports
for store in postgres sqlite; do
  python3 tests/soak/tasks.py --errands-bin "$target/soak-bin/errands" --store "$store" --state "$target/soak-tasks" --report docs/reports
done

python3 tests/soak/soak.py --ish-bin "$target/soak-bin/ish" --provider-bin "$target/soak-bin/loadtest" --state "$target/soak" "$@"
if command -v strace >/dev/null 2>&1; then
  python3 tests/soak/trace_ack.py --ish-bin "$target/soak-bin/ish"
else
  echo "soak: strace is not there, so no send is traced" >&2
fi
# 120 tries of each route, beside those that cover every member and bound: together more than 5,000 requests.
python3 tests/clients/run.py --ish-bin "$(realpath "$target/soak-bin/ish")" --provider-bin "$(realpath "$target/soak-bin/loadtest")" \
  -k test_the_server_is_as_it_describes_itself --openapi-phases examples,coverage,fuzzing,stateful --openapi-cases 120 \
  --openapi-report "$PWD/docs/reports/openapi-$(date -u +%F).json"
