#!/bin/sh
# Autobahn's WebSocket suite against examples/websocket_echo.rs. The suite is Python 2: PYTHON2 names an interpreter with pip, by
# default one of pyenv's. The report goes to docs/reports/.
set -eu
cd "$(dirname "$0")/.."
scripts/need.sh cargo cc python3

target="${CARGO_TARGET_DIR:-target}"
python2="${PYTHON2:-$(ls "$HOME"/.pyenv/versions/2.7*/bin/python2.7 2>/dev/null | head -n 1)}"
python2="${python2:-$(command -v python2.7 || true)}"
if [ -z "$python2" ]; then
  echo "autobahn: no Python 2.7 here; name one in PYTHON2" >&2
  exit 1
fi
site="$target/autobahn-site"
if [ ! -d "$site/autobahntestsuite" ]; then
  "$python2" -m pip install --quiet --target "$site" autobahntestsuite==25.10.1
fi
cargo build --locked -p ish --example websocket_echo
python3 tests/autobahn/run.py --python2 "$python2" --site "$site" --echo-bin "$target/debug/examples/websocket_echo" --report docs/reports "$@"
