# Everything runs on a fresh machine with Python 3.11 or newer: each target makes what it needs, and the second
# time it is quick. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip
PORT ?= 7181
# Compiled modules are kept: without them each start of Pipit, and each test process, compiles all of it again.
unexport PYTHONDONTWRITEBYTECODE
# Test processes, each with an engine of its own; a file's tests run in one. One more than cores, for tests wait, too;
# at most 8, for each takes about 1.5 GB.
JOBS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 7 ? cores + 1 : 8)))
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install demo test faults fuzz check lint types imports browser kafka s3 docs conformance clients neuter differential lock clean

help:  ## this list
	@awk 'BEGIN {FS = ":.*  ## "} /^[a-z]+:.*  ## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(RUNTIME)  ## the environment only, in .venv (gives .venv/bin/pipit)

demo: $(RUNTIME)  ## serve the demo project with live sample events at http://localhost:7181/demo
	@$(BIN)/pipit serve --project . --demo --port $(PORT)

test: check browser kafka s3  ## everything: lint, types, import layers, all tests but the long ones
	@echo "==> tests"
	@$(PYTEST)

faults: $(DEV) browser kafka s3  ## the long tests: more kills, more planted leaks, larger texts (make test has a smaller dose of each)
	@$(PYTEST) -m long

fuzz: $(DEV)  ## the property tests with fresh examples, TIMES=10 times as many (make test draws the same ones each time)
	@PIPIT_FUZZ=$(or $(TIMES),10) $(PYTEST) -m hypothesis

check: lint types imports  ## lint, types and import layers, without the tests (under a minute)

lint: $(DEV)
	@echo "==> ruff"
	@$(BIN)/ruff check .

types: $(DEV)
	@echo "==> mypy --strict"
	@$(BIN)/mypy

imports: $(DEV)
	@echo "==> import layers"
	@$(BIN)/lint-imports --no-cache --no-logo

conformance: $(DEV)  ## how much of a folder of Tinybird projects works here, unchanged (CORPUS=folder)
	@PYTHONPATH=tests $(BIN)/python -m conformance.run "$(CORPUS)"

clients: $(DEV)  ## published SDKs' calls on data sources, unmodified (needs node, PyPI and npm)
	@$(BIN)/python tests/clients/run.py

neuter: $(DEV)  ## takes each defence out in a copy and lists the tests that notice (minutes; NAMES="part of a name")
	@$(BIN)/python tests/attacks/neuter.py $(if $(NAMES),"$(NAMES)")

differential: $(DEV)  ## every function, clause and setting of the engine tried for leaks between tenants (an hour; ARGS=--help)
	@PYTHONPATH=tests $(BIN)/python tests/differential/run.py $(ARGS)

docs: $(DEV)  ## the documentation as a site in build/site; a dead link is an error
	@echo "==> docs"
	@$(BIN)/python scripts/reference.py
	@$(BIN)/python scripts/packages.py
	@$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees docs build/site
	@echo "build/site/index.html"

lock: $(DEV)  ## the newest versions that pyproject.toml allows into constraints.txt, for every platform (then: make test)
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --no-annotate \
	  --custom-compile-command "make lock" --output-file constraints.txt pyproject.toml

# The page at /demo is tested in a real browser: Debian's chromium, or the one that PIPIT_CHROMIUM names.
browser:
	@scripts/chromium

# Topics are read from a real broker: Java, and the jars of Apache Kafka in a cache outside of this folder.
kafka:
	@scripts/kafka/fetch >/dev/null

# Buckets are those of a real store: versitygw, built by Go in a cache outside of this folder.
s3:
	@scripts/s3/fetch >/dev/null

clean:  ## remove the environment and the caches (never your data in .pipit)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	  sys.exit(0 if v >= (3, 11) else "Pipit needs Python 3.11 or newer; $(PYTHON) is %d.%d. Try: make PYTHON=python3.12 ..." % v[:2])'
	@echo "==> environment: $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	@echo "==> packages (about 1 GB, nearly all of it the ClickHouse engine; about a minute)"
	@$(PIP) install --progress-bar on -c constraints.txt -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "==> packages for development"
	@$(PIP) install --progress-bar on -c constraints.txt -e '.[dev]'
	@touch $@ $(RUNTIME)
