#!/bin/sh
# The servers that tests need, from nothing: PostgreSQL with pgvector, PgBouncer in transaction mode with four server connections,
# and Redis; on free ports of 127.0.0.1, with data that goes when they stop. Nothing is lost with them: no fsync.
# Usage: services.sh start | stop | running      (start says where they are in .services/env, where the tests look)
# POSTGRES_BIN names the programs of another PostgreSQL (15 or newer), such as /usr/lib/postgresql/15/bin. Where speed is measured
# (instances.sh), POSTGRES_OPTIONS are added to its command, and PGBOUNCER_POOL_SIZE are PgBouncer's server connections.
set -eu
cd "$(dirname "$0")/.."
here="$PWD/.services"

# PostgreSQL and PgBouncer refuse to run as root. Takes this shell's place, so that its process is the server's.
if [ "$(id -u)" = 0 ]; then user=postgres; else user="$(id -un)"; fi
become() {
  if [ "$(id -un)" = "$user" ]; then exec "$@"; else exec setpriv --reuid="$user" --regid="$user" --init-groups "$@"; fi
}

# Whether process $2 is the server $1 that was started from here, and lives.
is_running() {
  [ "$(cat "/proc/$2/comm" 2>/dev/null)" = "$1" ] && ! grep -q '^State:.Z' "/proc/$2/status"
}

running() {
  [ -f "$here/env" ] || return 1
  while read -r name pid; do is_running "$name" "$pid" || return 1; done <"$here/pids"
}

free_ports() {
  python3 -c 'import socket
taken = [socket.socket() for _ in range(3)]
for one in taken: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in taken))'
}

# Waits until something listens on a port, as long as the process lives.
await_port() {
  python3 - "$1" "$2" "$3" <<'PYTHON'
import os, socket, sys, time
name, port, pid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        sys.exit(0)
    except OSError:
        os.kill(pid, 0)
        time.sleep(0.05)
sys.exit(f"services: {name} does not listen on port {port}")
PYTHON
}

start() {
  if running; then
    echo "services: they run already ($here/env)" >&2
    return
  fi
  stop
  # What fails on the way leaves nothing behind.
  trap stop EXIT
  scripts/setup.sh servers
  bin="${POSTGRES_BIN:-$(scripts/setup.sh postgres)}"
  data="$(mktemp -d "${TMPDIR:-/tmp}/ish-services.XXXXXX")"
  chown "$user" "$data"
  mkdir -p "$here"
  echo "$data" >"$here/data"
  : >"$here/pids"
  ports="$(free_ports)"
  set -- $ports
  start_postgres "$bin" "$1"
  start_pgbouncer "$1" "$2"
  start_redis "$3"
  cat >"$here/env" <<ENV
ISH_TEST_DATABASE_URL=postgres://ish_app@127.0.0.1:$2/postgres
ISH_TEST_DATABASE_DIRECT_URL=postgres://ish_owner@127.0.0.1:$1/postgres
ISH_TEST_REDIS_URL=redis://127.0.0.1:$3/0
ENV
  trap - EXIT
}

# An owner who may make databases and roles, and a login of the application that may nothing by itself.
start_postgres() {
  (become "$1/initdb" -D "$data/postgres" -U postgres -A trust -E UTF8 --locale=C.UTF-8) >"$data/initdb.log"
  (become "$1/postgres" --single -D "$data/postgres" postgres) >"$data/roles.log" 2>&1 <<'SQL'
CREATE ROLE ish_owner LOGIN CREATEDB CREATEROLE
GRANT pg_signal_backend TO ish_owner
CREATE ROLE ish_app LOGIN
SQL
  # In every database that is made from now on, where the programs have it; one made from template0 is without.
  echo 'CREATE EXTENSION vector' | (become "$1/postgres" --single -D "$data/postgres" template1) >"$data/vector.log" 2>&1
  become "$1/postgres" -D "$data/postgres" -p "$2" -k "$data" -c listen_addresses=127.0.0.1 -c max_connections=400 \
    -c fsync=off -c synchronous_commit=on -c full_page_writes=off ${POSTGRES_OPTIONS:-} >"$data/postgres.log" 2>&1 &
  started postgres "$2" $!
}

start_pgbouncer() {
  cat >"$data/pgbouncer.ini" <<INI
[databases]
* = host=127.0.0.1 port=$1
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $2
unix_socket_dir =
auth_type = trust
auth_file = $data/users
pool_mode = transaction
default_pool_size = ${PGBOUNCER_POOL_SIZE:-4}
server_login_retry = 1
max_client_conn = 900
INI
  printf '"ish_app" ""\n"ish_owner" ""\n' >"$data/users"
  chown "$user" "$data/pgbouncer.ini" "$data/users"
  become pgbouncer -q "$data/pgbouncer.ini" >"$data/pgbouncer.log" 2>&1 &
  started pgbouncer "$2" $!
}

start_redis() {
  become redis-server --bind 127.0.0.1 --port "$1" --dir "$data" --save '' --appendonly no >"$data/redis-server.log" 2>&1 &
  started redis-server "$1" $!
}

started() {
  echo "$1 $3" >>"$here/pids"
  await_port "$1" "$2" "$3" || { cat "$data/$1.log" >&2; exit 1; }
}

stop() {
  if [ -f "$here/pids" ]; then
    # PgBouncer before its server. SIGINT is PostgreSQL's fast end; to PgBouncer it would mean to wait for its clients.
    sort "$here/pids" | while read -r name pid; do
      signal=TERM
      if [ "$name" = postgres ]; then signal=INT; fi
      if is_running "$name" "$pid"; then kill -"$signal" "$pid"; fi
      while is_running "$name" "$pid"; do sleep 0.05; done
    done
  fi
  if [ -f "$here/data" ]; then rm -rf "$(cat "$here/data")"; fi
  rm -f "$here/pids" "$here/data" "$here/env"
}

case "${1:-}" in
  start) start ;;
  stop) stop ;;
  running) running ;;
  *) echo "services.sh: say start, stop or running" >&2; exit 2 ;;
esac
