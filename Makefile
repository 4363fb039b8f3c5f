# Everything runs from .venv, .cache/environments and node_modules, which the first target that needs them makes from the lock files.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
ENVIRONMENTS := .cache/environments
TIERS := $(shell sed -n 's/^    "\([a-z]*\)": "tests\/.*/\1/p' tools/run_tests.py)

# What the tools remember stays in the checkout, and `python3` is the environment's, whatever else is on PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_HOME := $(CURDIR)/.cache/ansible
export ANSIBLE_REMOTE_TMP := $(CURDIR)/.cache/ansible/remote-tmp
export BUF_CACHE_DIR := $(CURDIR)/.cache/buf
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis

.PHONY: help demo check format proto test test-collection $(TIERS:%=test-%) soak bench release lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do \
	    printf '  make %-16s %s\n' "$$name" "$$text"; done
	@for tier in $(TIERS); do printf '  make test-%-11s %s\n' "$$tier" "that tier of tests alone; ARGS go to pytest"; done

demo: .venv/installed ## three clusters on this machine: planned failover, emergency failover, failback; ARGS=…
	$(BIN)/omnirelay demo $(ARGS)

check: .venv/installed node_modules/installed ## the gates that run nothing: lint, types, layers, contracts
	@$(BIN)/python tools/check.py $(ARGS)

format: .venv/installed ## rewrite Python code in the one accepted format; ARGS="PATH…" only there
	$(BIN)/ruff check --fix --quiet $(ARGS)
	$(BIN)/ruff format $(ARGS)

proto: .venv/installed ## regenerate the code made from proto/
	$(BIN)/python tools/gen_proto.py

test: .venv/installed node_modules/installed debian ## the gates and every tier, with one closing line
	@$(BIN)/python tools/run_tests.py

test-collection: .venv/installed ## ansible-lint, ansible-test sanity and units on the collection
	@$(BIN)/python tools/collection.py

test test-playbooks test-collection: $(ENVIRONMENTS)/ansible-2.16/installed
test test-collection: $(ENVIRONMENTS)/galaxy/installed

$(TIERS:%=test-%): test-%: .venv/installed node_modules/installed debian
	@$(BIN)/python tools/run_tests.py $* -- $(ARGS)

soak: .venv/installed ## simulate many more seeds of every scenario; SEEDS=N, FIRST=seed to begin with
	$(BIN)/python -m omnirelay.testing.simulation tests/simulation/scenarios/*.toml --first $(or $(FIRST),1000) --seeds $(or $(SEEDS),1000)

bench: .venv/installed debian ## measure; ARGS=…
	$(BIN)/python -m bench $(ARGS)

release: .venv/installed ## turn the changelog's fragments into the release that galaxy.yml names
	@$(BIN)/python tools/collection.py release

lock: .venv/installed ## rewrite the lock files; ARGS="--upgrade" takes the newest versions
	tools/lock $(ARGS)

clean: ## remove everything that was made
	rm -rf .venv node_modules .cache build dist .ansible
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: debian
debian:
	@tools/debian_packages

.venv/locked: requirements/dev.txt tools/environment
	@tools/environment
	@touch $@

.venv/installed: .venv/locked pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check --disable-pip-version-check
	@touch $@

$(ENVIRONMENTS)/%/installed: requirements/%.txt tools/environment
	@tools/environment $*
	@touch $@

node_modules/installed: package-lock.json
	@echo "Making node_modules from package-lock.json"
	@npm ci --ignore-scripts --loglevel=error
	@touch $@
