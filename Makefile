# Seven verbs; CI runs the same ones. Everything goes into .venv.
PYTHON ?= python3
# What `make bench` measures: main, readers, links, models, all (benchmarks/README.md)
SET ?= main
BIN := .venv/bin
export PYTHON

.PHONY: setup demo test check docs bench clean

setup: .venv/ready

.venv/ready: pyproject.toml scripts/install-system
	scripts/install-system
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/lazyfs demo

test: setup
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report --include 'lazyfs/core/*' --fail-under 100

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/configuration_docs.py --check

docs: setup
	$(BIN)/python scripts/configuration_docs.py

bench: setup
	scripts/install-system bench
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks set $(SET)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage* dist build
