# ish as an image: one binary on Debian, with the certificates that providers are checked against, as a user who may nothing.
# The build needs what .dockerignore leaves: Cargo's files, the packages' sources, models, migrations, web, the docs that sources name; and Cargo's packages from the network.

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
# The C compiler (SQLite is built from source) is the image's. Packages and build output are kept between builds, the binary is taken out.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --release --locked -p ish && install -D target/release/ish /out/ish

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin ish \
    && install -d -o ish -g ish -m 0700 /data
COPY --from=build /out/ish /usr/local/bin/ish
USER ish
WORKDIR /data
# Any address but loopback needs a key: ISH_ADMIN_KEY_FILE names a file with the first one, or `docker exec ... ish keys new`.
ENV ISH_LISTEN=0.0.0.0:8080 ISH_DATA_DIR=/data
VOLUME /data
EXPOSE 8080
# The process's own life. Whether it can answer (/readyz) is the balancer's question: a restart does not mend a Postgres that is away.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:8080/livez"]
# SIGTERM, which a container gets, drains.
ENTRYPOINT ["ish"]
CMD ["serve"]
