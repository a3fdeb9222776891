# Needs make, bash and a Python of 3.11 or later; the first target that is asked for brings the rest into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
READY := .venv/.ready
PYTHONS := python3.13 python3.12 python3.11 python3
# The version of uv stands in uv.lock, like that of every other tool.
UV := $(shell sed -n '/^name = "uv"$$/{n;s/^version = "\(.*\)"$$/\1/p;}' uv.lock)

# Test processes at a time.
WORKERS ?= 2
# How much the benchmark moves and how often; how many faults the chaos harness injects.
ROWS ?= 1000000
ROUNDS ?= 3
FAULTS ?= 2000
# How many runs the soak launches, and in which time.
RUNS ?= 500
MINUTES ?= 10
# Percent of lines and branches that tests must reach, in the whole package and in the core: what decides
# badges, states, log lines, configuration, and what counts as a secret.
COVERED := 95
COVERED_CORE := 100
CORE := aiia_pipelines/config/*,aiia_pipelines/jobs/badge.py,aiia_pipelines/jobs/state.py,aiia_pipelines/jobs/log.py,aiia_pipelines/jobs/redaction.py,aiia_pipelines/jobs/catalogue.py,aiia_pipelines/jobs/classify.py
# Processes that the tests start, wherever, are measured as well: coverage's start-up file asks for the first.
MEASURED := COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_FILE=$(CURDIR)/.coverage

.PHONY: help demo up test check bench chaos soak lint types imports docs docs-current fast-tests fmt clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## Run the main job from nothing: sample source, sync, log, result.
	$(BIN)/aiia demo

up: $(READY) ## Start everything on this machine; Ctrl-C stops all of it.
	$(BIN)/aiia up

check: $(READY) ## Format, lint, types, imports, generated docs and fast tests: before every commit.
	@$(MAKE) --jobs=2 --output-sync=target fast-tests types lint imports docs-current

test: $(READY) ## Run all tests, then require the coverage.
	$(BIN)/coverage erase
	$(MEASURED) $(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile --cov --cov-report=
	@$(BIN)/coverage report --format=total --fail-under=$(COVERED) > /dev/null \
	  || { $(BIN)/coverage report --show-missing --skip-covered; echo "The package must be covered to $(COVERED) %." >&2; exit 1; }
	@$(BIN)/coverage report --format=total --fail-under=$(COVERED_CORE) --include='$(CORE)' > /dev/null \
	  || { $(BIN)/coverage report --show-missing --skip-covered --include='$(CORE)'; echo "The core must be covered to $(COVERED_CORE) %." >&2; exit 1; }

bench: $(READY) ## Compare with other tools in one interleaved run; how soon runs start; what size costs.
	$(BIN)/python benchmarks/run.py --rows $(ROWS) --rounds $(ROUNDS)
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/scale.py

chaos: $(READY) ## Strike syncs with faults, as many as FAULTS says, and check what is left after each.
	PYTHONPATH=tests/servers $(BIN)/python tests/chaos/harness.py --faults $(FAULTS) --jobs $(WORKERS)

soak: $(READY) ## Mixed runs under random faults against a whole installation, for as many MINUTES.
	PYTHONPATH=tests/acceptance:tests/servers $(BIN)/python tests/soak/soak.py --runs $(RUNS) --minutes $(MINUTES)

lint: $(READY) ## Look for mistakes in format and style.
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .

types: $(READY)
	$(BIN)/mypy --no-error-summary

imports: $(READY)
	@told=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$told"; exit 1; }

docs: $(READY) ## Write the reference pages that are made from the code.
	$(BIN)/python docs/generate.py

docs-current: $(READY)
	$(BIN)/python docs/generate.py --check

fast-tests: $(READY)
	$(BIN)/pytest --quiet --numprocesses=$(WORKERS) --dist=loadfile -m "not integration and not acceptance and not slow"

fmt: $(READY) ## Format the code and make the corrections that ruff can make.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what make has made; the data of an installation (.aiia) stay.
	rm -rf .venv dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Also after a change of the lock file; an environment whose interpreter went away is made anew.
$(READY): pyproject.toml uv.lock
	@if ! $(BIN)/python -c '' 2> /dev/null; then \
	  for python in $(or $(PYTHON),$(PYTHONS)); do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && found=$$python && break; \
	  done; \
	  if [ -z "$${found:-}" ]; then \
	    echo "Found no Python of 3.11 or later (looked for: $(or $(PYTHON),$(PYTHONS))). Install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	  fi; \
	  "$$found" -m venv --clear .venv; \
	fi
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV)
	@# uv is in the lock file too, so this does not remove it.
	@# Compiled once here: where Python may not write beside its modules, each process would compile them anew.
	UV_PROJECT_ENVIRONMENT=.venv $(BIN)/uv sync --quiet --locked --all-extras --all-groups --compile-bytecode
	@touch $@
