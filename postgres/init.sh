#!/bin/sh
# Database ish_chat with what ish needs of it: run once, by an administrator, on an empty server. The image of Postgres does so by
# itself (docker-entrypoint-initdb.d); elsewhere: PGHOST=... OWNER_PASSWORD=... APP_PASSWORD=... postgres/init.sh
# What each login may do: docs/postgres.md.
set -eu
psql -v ON_ERROR_STOP=1 -v owner="$OWNER_PASSWORD" -v app="$APP_PASSWORD" \
  --username "${POSTGRES_USER:-postgres}" --dbname "${POSTGRES_DB:-postgres}" <<'SQL'
CREATE ROLE ish_tenant NOLOGIN NOINHERIT;
CREATE ROLE ish_system NOLOGIN NOINHERIT;
CREATE ROLE ish_login NOLOGIN NOINHERIT;
GRANT ish_tenant, ish_system TO ish_login;
CREATE ROLE ish_owner LOGIN PASSWORD :'owner';
CREATE ROLE ish LOGIN PASSWORD :'app';
GRANT ish_login TO ish;
CREATE DATABASE ish_chat OWNER ish_owner;
\connect ish_chat
CREATE EXTENSION IF NOT EXISTS vector;
SQL
