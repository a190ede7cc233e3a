# Whittle. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help
help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS=$$'\t' read -r name text; do \
	  printf '  make %-14s %s\n' "$$name" "$$text"; done

# ── The operator's image ─────────────────────────────────────────────────────────────────────────

.PHONY: image
image: ## Build the operator's image; IMAGE=registry/repository:tag pushes it
	@config/image/build.sh $(IMAGE)

# ── The demo ─────────────────────────────────────────────────────────────────────────────────────

# CLUSTER=current uses the current kube context: give REGISTRY=registry.example.com/team then.
.PHONY: demo
demo: ## A cluster, the operator, a build for two platforms, the image as a Pod, a second build
	@CLUSTER='$(CLUSTER)' REGISTRY='$(REGISTRY)' IMAGE='$(IMAGE)' tests/demo/demo.sh

# ── Tests ────────────────────────────────────────────────────────────────────────────────────────

.PHONY: generate lint test test-unit test-shells test-integration
generate: ## Write what is derived: CRDs, the chart's copies of them, the kustomize base
	@config/generate.sh

lint: ## Formatting and clippy as errors; the chart, the kustomize base and the CRDs
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	config/check.sh
	cd tests/cluster && gofmt -l . | (! grep .) && go vet ./...
	cd tests/bench/inspect && gofmt -l . | (! grep .) && go vet ./...

test: ## Everything: lint, unit tests, a real API server, a whole cluster
	@tests/all.sh

test-unit: ## Unit tests and snapshots
	cargo test --locked --lib --bins
	cd tests/cluster && go test ./...

test-shells: ## What is said of scripts, against random ones in dash, bash, busybox and mksh
	tests/shells.sh

test-integration: ## The controller on a real etcd and API server
	CLUSTER_BIN="$$(cd tests/cluster && go run . build etcd kube-apiserver helm)" cargo test --locked --test integration

.PHONY: test-e2e
test-e2e: ## End to end, on the local cluster, with Whittle installed by its chart
	tests/e2e/run.sh

.PHONY: fuzz
fuzz: ## Fuzz what reads layers, ELF files, manifests, commands and YAML; SECONDS_EACH=60
	tests/fuzz/run.sh

.PHONY: bench bench-inspect
bench: ## A build against bare buildctl, in turns, after `make demo`; bench-admission; bench-inspect. RUNS=7
	tests/bench/run.sh
	tests/bench/inspect.sh

bench-inspect: ## `whittle inspect` against `crane export | tar t`, in turns, on 15 MB and 1 GB. RUNS=5
	tests/bench/inspect.sh

.PHONY: bench-admission
bench-admission: ## What the probe guard costs at a Pod's admission, on the cluster of `make demo`; REQUESTS=4000
	source .cluster/env && cargo bench --locked --bench admission

.PHONY: bench-scale
bench-scale: ## The controller's memory and requests at 0, N/10 and N ImageBuilds: docs/scale.md. N=10000 PROFILE=release
	cargo build --locked --bin whittle --profile $(or $(PROFILE),release)
	CLUSTER_BIN="$$(cd tests/cluster && go run . build etcd kube-apiserver helm)" N=$(N) QUEUED=$(QUEUED) \
	  WHITTLE="$(or $(WHITTLE),$(CURDIR)/target/$(if $(filter dev,$(PROFILE)),debug,$(or $(PROFILE),release))/whittle)" \
	  cargo test --locked --test scale

# ── The local cluster ────────────────────────────────────────────────────────────────────────────

# The local cluster: a real Kubernetes on this machine. `cluster` writes .cluster/env.
.PHONY: cluster cluster-down

cluster: ## Start the local cluster, or find it up; writes .cluster/env
	cd tests/cluster && go run . up

cluster-down: ## End it, and leave nothing behind
	cd tests/cluster && go run . down
