# Every command a person types.
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: run build test services services-stop check bench bench-servers eval soak autobahn screenshot clean

## run: build and serve on http://127.0.0.1:8080/ (ISH_LISTEN, ISH_DATA_DIR and the rest: `ish config init`)
run: build
	@$(TARGET)/release/ish serve

## build: the release binary
build:
	@scripts/need.sh cargo cc
	$(CARGO) build --release --locked -p ish

## test: everything that proves something: Rust, real clients, the page in a real browser
test:
	@scripts/test.sh

## services: PostgreSQL, PgBouncer and Redis for tests, until `make services-stop`; `make test` starts its own where none run
services:
	@scripts/services.sh start

services-stop:
	@scripts/services.sh stop

## check: what a reviewer would run besides the tests: format, lints, docs, alerts
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --features failpoints -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	@scripts/alerts.sh

## bench: the standard set on one instance, each target beside its floor in one table; about 20 minutes
bench: build
	@scripts/bench.sh

## bench-servers: several instances, the task queue and look-ups by tier, with Postgres and Redis; half an hour
bench-servers: build
	@scripts/bench.sh servers

## eval: the matching tables of docs/matching.md, from labelled pairs in ../shared/data
eval:
	$(CARGO) run --release --locked --example evaluate -- ../shared/data

## soak: the full counts of the fault tests; can be resumed; writes docs/reports/
soak:
	@scripts/soak.sh

## autobahn: Autobahn's WebSocket suite against an echo over our socket's settings; needs a Python 2.7
autobahn:
	@scripts/autobahn.sh

## screenshot: the README's picture, taken by the page test
screenshot:
	@scripts/test.sh page --screenshot
