#!/bin/sh
# Says which of the named commands are missing, and how to get them.
for name in "$@"; do
  command -v "$name" >/dev/null 2>&1 && continue
  case "$name" in
    cargo) echo "ish needs Rust 1.95 or newer: cargo is not on the PATH" >&2 ;;
    cc) echo "ish needs a C compiler (SQLite is built from source): install gcc or clang" >&2 ;;
    *) echo "ish needs $name: it is not on the PATH" >&2 ;;
  esac
  exit 1
done
