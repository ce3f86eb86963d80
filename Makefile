# CI runs the same verbs. Everything goes into .venv, and vLLM, which pins half of what there is, into
# .venv-vllm.
PYTHON ?= python3
# What `make bench` measures: main, readers, links, models, all (benchmarks/README.md)
SET ?= main
# What `make chaos` plays: so many seconds of everything at once, kills, upgrades, reads under faults, stalls, readers,
# megabytes under a memory limit; all of it by one seed, which is printed (docs/reliability.md).
SECONDS ?= 300
KILLS ?= 200
READS ?= 10000
STALLS ?= 20
READERS ?= 32
MODEL_MB ?= 2000
# How many tests run at once: most of them wait for a process or a server.
WORKERS ?= 3
SEED ?= $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')
BIN := .venv/bin
KILL_9 := tests/chaos/test_kills.py::test_kill_9_again_and_again_under_load
VLLM := .venv-vllm
export PYTHON

.PHONY: setup demo test-fast test test-slow test-vllm chaos check docs bench clean

setup: .venv/ready

.venv/ready: pyproject.toml scripts/install-system
	scripts/install-system
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/lazyfs demo

# After each edit: what needs no mount, root, server or other process.
test-fast: setup
	$(BIN)/pytest -q -n 2 -m 'not real and not slow and not vllm'

# What a change can break, on real mounts, a real S3 server and real processes. Branches are traced where they are
# asserted: `core` has to be covered by its own tests.
test: setup
	$(BIN)/coverage run --source lazyfs.core -m pytest -q tests/core
	$(BIN)/coverage report --skip-covered --fail-under 100
	$(BIN)/pytest -q -n $(WORKERS) --ignore tests/core

# What takes long: the image's file system, every version of Kubernetes, many examples of each property, and chaos
# for minutes.
test-slow: setup
	HYPOTHESIS_PROFILE=many $(BIN)/pytest -q -n 2 -o timeout=900 -o faulthandler_timeout=900 -m hypothesis
	$(BIN)/pytest -q -n 2 -m slow
	SECONDS=60 KILLS=40 READS=4000 STALLS=4 READERS=32 MODEL_MB=500 \
	  $(BIN)/pytest -q -s -o timeout=900 -o faulthandler_timeout=900 -m chaos tests/chaos --deselect $(KILL_9)
	KILLS=200 READERS=32 $(BIN)/pytest -q -s -o timeout=1900 -o faulthandler_timeout=1900 $(KILL_9)

# A start takes longer than what a hanging test of the others would.
test-vllm: setup $(VLLM)/ready
	$(BIN)/pytest -m vllm -o faulthandler_timeout=600 tests/vllm

# torch with what its build needs, be it for CPUs or not; the others as they are listed, and no more.
$(VLLM)/ready: tests/vllm/requirements.txt scripts/install-system
	scripts/install-system vllm
	$(PYTHON) -m venv --clear $(VLLM)
	$(VLLM)/bin/pip install --quiet --constraint tests/vllm/requirements.txt torch==2.13.0
	$(VLLM)/bin/pip install --quiet --no-deps --requirement tests/vllm/requirements.txt
	touch $@

# As root. Models and fuzzers with twenty-five times the examples, then the suite.
chaos: SEED := $(SEED)
chaos: setup
	@echo SEED=$(SEED)
	HYPOTHESIS_PROFILE=chaos $(BIN)/pytest -o timeout=3000 -o faulthandler_timeout=3000 --hypothesis-seed=$(SEED) \
	  tests/core tests/streaming/test_model.py tests/streaming/test_reader.py tests/transport/test_fuzz.py
	SECONDS=$(SECONDS) KILLS=$(KILLS) READS=$(READS) STALLS=$(STALLS) READERS=$(READERS) MODEL_MB=$(MODEL_MB) \
	  SEED=$(SEED) $(BIN)/pytest -o faulthandler_timeout=3000 -s -m chaos tests/chaos

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/configuration_docs.py --check
	$(BIN)/python -m scripts.deployment --check

docs: setup
	$(BIN)/python scripts/configuration_docs.py
	$(BIN)/python -m scripts.deployment

bench: setup
	scripts/install-system bench
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks set $(SET)

clean:
	rm -rf .venv $(VLLM) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage* dist build
