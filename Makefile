# Needs Python 3.11 or newer and make. Everything is made in .venv, nothing outside this folder.

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-long check install bench siege structure

# What `make test` leaves to `make test-all` and `make test-long`.
EXTRA := slow or long or node or browser or postgres or sdks
# Most of a test's time is waiting for something, so some run side by side.
PYTEST := .venv/bin/python -m pytest -n 5 --dist worksteal

PIP := PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip
NPM_LOCK := $(wildcard tests/node/package-lock.json)
SDKS := $(patsubst tests/sdks/openai-%.txt,tests/sdks/.venv-%/.ready,$(wildcard tests/sdks/openai-*.txt))

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

run: .venv/.ready ## Run everything on this machine: web, worker, Valkey, SQLite (PORT=8000, ARGS="…")
	@.venv/bin/likedo up $(ARGS)

test: .venv/.ready ## Run the tests that need nothing but Python (ARGS="-k credits")
	@$(PYTEST) -m "not ($(EXTRA))" $(ARGS); \
	status=$$?; \
	echo "Left out: tests marked $(EXTRA); make test-all and make test-long run them."; \
	exit $$status

test-all: .venv/.ready $(NPM_LOCK:package-lock.json=node_modules/.ready) $(SDKS) ## Run all tests but the long ones
	@$(PYTEST) -m "not (long or alone)" $(ARGS)

test-long: .venv/.ready ## Run the long tests: long matrices, workers killed at any point, floods, outages
	@$(PYTEST) -m "long and not alone" $(ARGS) || [ $$? -eq 5 ] # Where ARGS leaves none.
	@.venv/bin/python -m pytest -m alone $(ARGS) || [ $$? -eq 5 ]

check: .venv/.ready ## Check format, lint, types and who imports whom
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/python -m pytest -q tests/test_imports.py

install: .venv/.ready ## Make .venv with the project and its likedo, gunicorn and python
	@echo "Ready: .venv/bin/likedo"

bench: .venv/.ready ## Measure what a call costs, and print the figures (ARGS="…")
	@.venv/bin/python -m bench $(ARGS)

siege: .venv/.ready ## Attack an installation of its own for a minute, and show what others felt
	@.venv/bin/python -m bench.siege $(ARGS)

structure: .venv/.ready ## Show how many files a call goes through, and how large they are (ARGS="--json")
	@.venv/bin/python -m bench.structure $(ARGS)

.venv/.ready: pyproject.toml constraints.txt .venv/bin/python
	@echo "Installing into .venv; this takes a minute the first time."
	@$(PIP) install --quiet -e '.[dev]' -c constraints.txt
	@touch $@

.venv/bin/python:
	@newest=; \
	for python in python3.13 python3.12 python3.11 python3; do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		newest=$$python; \
		$$python -c 'import ensurepip, venv' 2>/dev/null || continue; \
		$$python -m venv --clear .venv && exit 0; \
		rm -rf .venv; exit 1; \
	done; \
	if [ -n "$$newest" ]; then \
		echo "$$newest cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; \
	else \
		echo "Python 3.11 or newer is needed; python3.13, python3.12, python3.11 and python3 are not it." >&2; \
	fi; \
	exit 1

tests/node/node_modules/.ready: tests/node/package-lock.json
	@npm ci --loglevel error --no-audit --no-fund --prefix tests/node --cache .venv/npm
	@touch $@

tests/sdks/.venv-%/.ready: tests/sdks/openai-%.txt .venv/bin/python
	@.venv/bin/python -m venv --clear --without-pip tests/sdks/.venv-$*
	@$(PIP) --python tests/sdks/.venv-$*/bin/python install --quiet -r $<
	@touch $@
