# syntax=docker/dockerfile:1
# Image of the command line client. Build from the root of the repository:
#   docker buildx build --platform linux/amd64,linux/arm64 -f deploy/docker/dirctl.Dockerfile .
FROM rust:1.90-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY proto proto
COPY tests/product tests/product
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --release -p dirctl \
    && install -D target/release/dirctl /out/dirctl

# glibc and nothing else: no shell, no package manager. User 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/dirctl /usr/local/bin/dirctl
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/dirctl"]
