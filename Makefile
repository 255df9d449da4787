# Directory: build, run, test. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run demo lab build setup lint test test-unit test-interop test-chart test-world fuzz bench soak store-story clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 16

run: ## build and start a directory on this machine: mTLS with an embedded identity, data in ./data
	@scripts/run.sh

demo: ## the same as a short story that ends by itself
	@scripts/run.sh --demo

lab: ## two organisations on this machine: federation, rotation, switches to break things (STORY=1: the story, then end)
	cargo build --profile local --locked -p dir-apiserver
	target/local/dir-apiserver lab $(if $(STORY),--story)

build: ## all binaries, development profile
	cargo build --workspace --locked

setup: ## install what `make test` needs beside Rust, Go, Node and Python, at pinned versions
	@scripts/setup.sh

lint: ## formatting, clippy without warnings
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

test: setup lint test-unit test-chart ## everything that needs no SPIRE and no Zot

test-unit: ## the whole workspace, public SDKs and nginx included
	cargo build --workspace --locked
	cargo test --workspace --locked --no-fail-fast

test-chart: ## lint, strict schemas and assertions over the rendered chart
	tests/chart/run.sh

test-world: ## the same product against real SPIRE and real Zot (found on PATH)
	@scripts/check-world.sh
	cargo build --workspace --locked
	cargo test --workspace --locked --features product-tests/world,dir-store/world --test world

fuzz: ## every parser of foreign bytes, FUZZ_SECONDS (30) each, with libFuzzer; `make test` has a short run without it
	@scripts/fuzz.sh

bench: ## the benchmark report: table on the screen, JSON in bench-report/ (BENCH=--quick: a tenth of everything)
	@scripts/bench.sh $(BENCH)

soak: ## a thousand rotations of SVIDs and CAs under load from several processes; fails when one call did
	cargo build --profile quick --locked -p dir-apiserver -p product-tests --bins
	target/quick/soak $(SOAK)

store-story: ## 30,000 records (RECORDS) in one repository of a real Zot: adopted, served, resharded (online for MINUTES), compared, with times
	@scripts/check-world.sh
	cargo build --profile quick --locked -p dir-apiserver -p dir-admin -p dirctl -p product-tests --bins
	target/quick/store-story $(if $(RECORDS),--records $(RECORDS)) $(if $(MINUTES),--minutes $(MINUTES))

clean: ## remove build output, tools and data
	rm -rf target .tools data bench-report
