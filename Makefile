# Everything starts from a Python (3.11 or later), make and a package index.
#
#   make demo    the example over this interpreter's standard library
#   make test    the whole test suite
#   make check   the quick loop: lint, types, fast tests

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Cores are shared: tests run side by side only where asked for, as in `make test JOBS=4`.
JOBS ?= 1
PYTEST := $(BIN)/python -m pytest $(if $(filter-out 1,$(JOBS)),-n $(JOBS))

.DEFAULT_GOAL := help
.PHONY: help venv demo examples test check lint types rules format docs serve-docs sim sim-small sim-mutants bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml
	@echo "Making $(VENV) with the tools in it: a minute or two, once."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; say which with make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

venv: $(STAMP)  ## the environment under .venv

demo: $(STAMP)  ## outline the standard library, change it, kill an update, recover
	$(BIN)/python examples/stdlib_outline/demo.py

examples: $(STAMP)  ## run the small examples
	@set -e; for command in update update 'drop --force'; do \
	    $(BIN)/cocoindex $$command examples/hello/main.py; \
	done
	$(BIN)/python examples/custom_target/main.py

test: $(STAMP)  ## the whole suite
	$(PYTEST)

check: $(STAMP) lint types  ## the quick loop: lint, types, fast tests
	$(PYTEST) -q -m "not slow"

lint: $(STAMP)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy, strict
	$(BIN)/mypy

rules: $(STAMP)  ## which room may import which
	$(BIN)/lint-imports --no-logo --no-cache

format: $(STAMP)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)  ## build the documentation into site/, warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

serve-docs: $(STAMP)  ## the documentation at http://127.0.0.1:8000
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

SEEDS ?= 2000

sim: $(STAMP)  ## random histories with kills against the simulated engine; more: make sim SEEDS=200000
	$(BIN)/python tests/sim/run.py --seeds $(SEEDS)

sim-small: $(STAMP)  ## every small tree, pair of edits and point of a kill: most of an hour on 2 cores
	$(BIN)/python tests/sim/run.py --small 1

sim-mutants: $(STAMP)  ## whether the simulator finds every deliberate mistake in the engine
	$(BIN)/python tests/sim/run.py --mutants known

bench: $(STAMP)  ## compare with CocoIndex 1.0.26 and write docs/benchmarks.md
	$(BIN)/python -m benchmarks --write

clean:  ## what tools and examples left behind; the environment stays
	rm -rf build dist site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf benchmarks/.work examples/*/.state
