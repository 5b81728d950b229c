# The two commands of the README: `make run` and `make test`. They need Python 3.11 or later, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG := run/kvs.yaml
SEEDS ?= 1000
FIRST ?= 0
MINUTES ?= 30
SEED ?= 1
NODES ?= 4

.PHONY: run stop test lint types check integration test-slow sim chaos bench bench-docs peers clean

run: $(VENV)/installed
	@$(BIN)/python -m kvs.daemon.quickstart $(CONFIG)

stop: $(VENV)/installed
	@$(BIN)/kvs stop $(CONFIG)

test: lint types check

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

# Most tests wait for other processes: two files at a time take half as long.
check: $(VENV)/installed-dev
	$(BIN)/pytest -q -n 2 --dist loadfile

integration: $(VENV)/installed
	@./integration_test.sh

test-slow: $(VENV)/installed-dev
	$(BIN)/pytest -q -m slow --timeout 3600

sim: $(VENV)/installed-dev
	$(BIN)/python -m tests.sim --first $(FIRST) --seeds $(SEEDS)

chaos: $(VENV)/installed-dev
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) --seed $(SEED) --nodes $(NODES) --docs docs/testing.md

bench: $(VENV)/installed-bench
	mkdir -p build
	$(BIN)/python -m benchmarks --json build/bench.json

bench-docs: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks.publish build/bench.json

# What `make bench` compares with and no distribution has; it says itself which packages the others are in.
peers:
	npm install --prefix .peers/pouchdb --ignore-scripts --no-audit --no-fund pouchdb-server@4.2.0
	$(PYTHON) -m venv .peers/moat
	.peers/moat/bin/pip install --quiet --disable-pip-version-check moat-kv==0.71.0

clean:
	rm -rf $(VENV) build .peers *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "KVS needs Python 3.11 or later; try: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/installed-bench: $(VENV)/installed-dev
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@
