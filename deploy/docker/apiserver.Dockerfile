# syntax=docker/dockerfile:1
# Image of the API server. Build from the root of the repository:
#   docker buildx build --platform linux/amd64,linux/arm64 -f deploy/docker/apiserver.Dockerfile .
FROM rust:1.90-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY proto proto
COPY tests/product tests/product
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --release -p dir-apiserver \
    && install -D target/release/dir-apiserver /out/dir-apiserver

# glibc and nothing else: no shell, no package manager. User 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/dir-apiserver /usr/local/bin/dir-apiserver
USER 65532:65532
# Without it glibc keeps up to eight heaps a core, each with its own unused room.
ENV MALLOC_ARENA_MAX=2
# gRPC over mutual TLS; health, metrics and version over plain HTTP
EXPOSE 8888 9090
ENTRYPOINT ["/usr/local/bin/dir-apiserver"]
CMD ["serve"]
