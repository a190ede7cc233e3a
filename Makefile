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

# ── The local cluster ────────────────────────────────────────────────────────────────────────────

# The local cluster: a real Kubernetes on this machine. `cluster` writes .cluster/env.
.PHONY: cluster cluster-down

cluster: ## Start the local cluster, or find it up; writes .cluster/env
	cd tests/cluster && go run . up

cluster-down: ## End it, and leave nothing behind
	cd tests/cluster && go run . down
