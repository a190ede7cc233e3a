# Whittle. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help
help: ## This list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS=$$'\t' read -r name text; do \
	  printf '  make %-16s %s\n' "$$name" "$$text"; done

# ── The operator's image ─────────────────────────────────────────────────────────────────────────

.PHONY: image
image: ## Build the operator's image; IMAGE=registry/repository:tag pushes it
	@config/image/build.sh $(IMAGE)

# ── The demo ─────────────────────────────────────────────────────────────────────────────────────

.PHONY: try
try: ## A first image without a cluster: whittle and BuildKit are built, and by them the demo's service for two platforms
	@tests/demo/try.sh

# CLUSTER=current uses the current kube context: give REGISTRY=registry.example.com/team then.
.PHONY: demo
demo: ## A cluster, the operator, a build for two platforms, the image as a Pod, a second build
	@CLUSTER='$(CLUSTER)' REGISTRY='$(REGISTRY)' IMAGE='$(IMAGE)' tests/demo/demo.sh

# ── Tests ────────────────────────────────────────────────────────────────────────────────────────

# T chooses tests by a part of their names: make test-unit T=decide, make test-e2e T='truth:: pairs::'.
T ?=
NEXTEST := PATH="$$(config/tools/install.sh):$$PATH" cargo nextest run --locked

.PHONY: packages generate lint test test-long test-unit test-shells test-browser test-argocd test-docs test-integration
packages: ## What the machine lacks for building and testing: Debian packages, and pinned tools in the cache
	@tests/packages.sh

generate: ## Write what is derived: CRDs, the chart's copies of them, the kustomize base, Argo CD's ConfigMap
	@config/generate.sh

lint: ## Formatting, clippy, documentation, dependencies, scripts, spelling, links, chart: all as errors
	@config/lint.sh

test: ## Everything, in 25 minutes: lint, unit tests, a real API server, a whole cluster; a sample of the long tables
	@tests/all.sh

test-long: ## What takes long, whole: the tables of images, probes and samples; scale; fuzzing and shells for longer
	@tests/long.sh

test-unit: ## Unit tests and snapshots; T=PART chooses by name
	$(NEXTEST) --lib --bins -- $(T)
	@[[ -n '$(T)' ]] || { set -x; cd tests/cluster && go test ./...; }

test-shells: ## What is said of scripts, against random ones in dash, bash, busybox and mksh
	tests/shells.sh

test-browser: ## The page of `whittle inspect -o html` in a browser; pictures in target/browser
	tests/browser.sh

# What it reads is outside of its module: go test would not see that it has changed.
test-argocd: ## Argo CD's scripts for our kinds, in the Lua that Argo CD runs, by its own kind of tests
	cd tests/argocd && go test -count=1 ./...

# Pages are outside of its module: go test would not see that they have changed.
test-docs: ## Each ImageBuild and Builder that docs/ and README.md show, by a real API server
	cd tests/docs && CLUSTER_BIN="$${CLUSTER_BIN:-$$(cd ../cluster && go run . build etcd kube-apiserver)}" go test -count=1 ./...

test-integration: ## The controller on a real etcd and API server; T=PART
	CLUSTER_BIN="$${CLUSTER_BIN:-$$(cd tests/cluster && go run . build etcd kube-apiserver helm)}" $(NEXTEST) --test integration --profile integration -- $(T)

# PROFILE=dev builds the operator without optimization, which is quicker after a change. CLUSTER=current uses the current kube
# context and its own REGISTRY, as `make demo` does, and starts nothing.
.PHONY: test-e2e
test-e2e: ## End to end, on the local cluster, by the chart; T=PART PROFILE=dev CLUSTER=local|current
	@PROFILE='$(PROFILE)' CLUSTER='$(CLUSTER)' REGISTRY='$(REGISTRY)' tests/e2e/run.sh $(T)

.PHONY: test-tutorial
test-tutorial: ## docs/tutorial.md as it is written, after `make demo` or `make test-e2e`
	tests/tutorial.sh

.PHONY: fuzz
fuzz: ## Fuzz what reads layers, ELF files, manifests, commands and YAML; SECONDS_EACH=60
	tests/fuzz/run.sh

.PHONY: bench bench-inspect
bench: ## A build against bare buildctl, in turns, after `make demo`; bench-admission; bench-inspect. RUNS=7
	tests/bench/run.sh
	tests/bench/inspect.sh

bench-inspect: ## `whittle inspect` against `crane export | tar t`, in turns, on 15 MB, 222 MB and 1 GB. RUNS=5
	tests/bench/inspect.sh

.PHONY: bench-minimize
bench-minimize: ## `whittle minimize` against `whittle inspect`, in turns, on 15 MB, 222 MB and 1 GB; then hostile images: docs/minimize.md. RUNS=5
	tests/bench/inspect.sh minimize

.PHONY: bench-admission
bench-admission: ## What the probe guard costs at a Pod's admission, on the cluster of `make demo`; REQUESTS=4000
	source .cluster/env && cargo test --locked --quiet --bench admission

.PHONY: bench-modes
bench-modes: ## What isolation and sharing of builders cost, in turns, on the local cluster with Whittle installed; RUNS=5
	source .cluster/env && cargo test --locked --quiet --bench modes

.PHONY: bench-peers
bench-peers: ## A build through Shipwright on Tekton, buildx, Whittle and bare buildctl, in turns, after `make demo`. RUNS=7; 0 only removes them
	tests/bench/peers.sh

.PHONY: bench-scale
bench-scale: ## The controller's memory and requests at 0, N/10 and N ImageBuilds: docs/scale.md. N=10000 PROFILE=release
	cargo build --locked --bin whittle --profile $(or $(PROFILE),release)
	CLUSTER_BIN="$$(cd tests/cluster && go run . build etcd kube-apiserver helm)" N=$(N) QUEUED=$(QUEUED) \
	  WHITTLE="$(or $(WHITTLE),$(CURDIR)/target/$(if $(filter dev,$(PROFILE)),debug,$(or $(PROFILE),release))/whittle)" \
	  cargo test --locked --test scale

.PHONY: bench-watch
bench-watch: ## What polling N sources costs watcher, controller and git server: docs/scale.md. N=1000 PROFILE=release
	cargo build --locked --bin whittle --profile $(or $(PROFILE),release)
	CLUSTER_BIN="$$(cd tests/cluster && go run . build etcd kube-apiserver helm)" N=$(N) \
	  WHITTLE="$(or $(WHITTLE),$(CURDIR)/target/$(if $(filter dev,$(PROFILE)),debug,$(or $(PROFILE),release))/whittle)" \
	  cargo test --locked --test watch

# ── Documentation ────────────────────────────────────────────────────────────────────────────────

.PHONY: site
site: ## The documentation as a site in target/site, built and checked; it works offline
	@config/site/build.sh
	@tests/site.sh

# ── The local cluster ────────────────────────────────────────────────────────────────────────────

# The local cluster: a real Kubernetes on this machine. `cluster` writes .cluster/env.
.PHONY: cluster cluster-down

# IMAGES=demo leaves out the base images that only samples and tests use.
cluster: ## Start the local cluster, or find it up; writes .cluster/env
	cd tests/cluster && go run . up $(IMAGES)

cluster-down: ## End it, and leave nothing behind
	cd tests/cluster && go run . down

# ── A release ────────────────────────────────────────────────────────────────────────────────────

# What .github/workflows/release.yml calls, in this order; see RELEASE.md. All is gathered in target/release-files.
# Nothing is pushed without REGISTRY=ghcr.io/owner, and nothing signed but by release-sign-….
.PHONY: release-check release-notes release-binaries release-image release-index release-chart release-sbom \
  release-checksums release-packages release-sign-image release-sign-chart release-sign-files

release-check: ## Fail unless Cargo.toml, chart, kustomize base and changelog say VERSION=1.2.3
	@config/release/check.sh '$(VERSION)'

release-notes: ## Print the changelog's section of VERSION=1.2.3
	@config/release/notes.sh '$(VERSION)'

release-binaries: ## Pack the static program for this machine's architecture
	@config/release/binaries.sh

release-image: ## Build and push REGISTRY/whittle:VERSION-ARCH for this machine's architecture
	@config/release/image.sh

release-index: ## Join the images of all architectures into REGISTRY/whittle:VERSION
	@config/release/index.sh

release-chart: ## Pack the chart; REGISTRY=ghcr.io/owner pushes it
	@config/release/chart.sh

release-sbom: ## Write the image's bill of materials (SPDX)
	@config/release/sbom.sh

release-checksums: ## Write SHA256SUMS
	@config/release/checksums.sh

release-packages: ## Write the manifest for krew and the formula for Homebrew
	@config/release/packages.sh

release-sign-image release-sign-chart release-sign-files: ## Sign with cosign, by the workflow's identity
	@config/release/sign.sh $(@:release-sign-%=%)
