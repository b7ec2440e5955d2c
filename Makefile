# Everything a person types here. Needs python3 >= 3.11, pip and make; nothing else.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check
TEST_ARGS ?= -n 2

.PHONY: demo test setup check lint types imports docs package bench-polling lock clean help
.PHONY: coverage mutants mutation safety soak
SAFETY_TESTS := $(addprefix tests/safety/test_,gate.py guardrails.py journal.py release.py modes.py commands.py)

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: .venv/.run-ready ## run the whole thing on a simulated hall; ends by itself
	$(BIN)/skadi demo

test: .venv/.dev-ready ## run the tests
	$(BIN)/python -m pytest $(TEST_ARGS)

setup: .venv/.dev-ready ## make .venv with all that running and testing need

check: lint types imports ## lint, types and import rules

lint: .venv/.dev-ready ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev-ready ## mypy --strict
	$(BIN)/mypy

imports: .venv/.dev-ready ## who may import whom
	$(BIN)/lint-imports

coverage: .venv/.dev-ready ## the safety layer is covered whole, line and branch, by its own fast tests
	$(BIN)/coverage run --rcfile=tests/safety/coveragerc -m pytest -n 0 $(SAFETY_TESTS)
	$(BIN)/coverage report --rcfile=tests/safety/coveragerc

mutants: .venv/.dev-ready ## plant bugs in a copy of the tree; each must turn its tests red
	$(BIN)/python -m tests.safety.mutants

safety: .venv/.dev-ready ## try every promise in volume; each with its figures (about 15 minutes)
	$(BIN)/python -m tests.safety.run --ci

bench-polling: .venv/.dev-ready ## what polling costs, beside a bare loop and ThingsBoard's gateway
	$(BIN)/python benchmarks/polling.py

mutation: .venv/.dev-ready ## mutation testing of the safety layer, whole (by hand; goes on where it was stopped)
	$(BIN)/python -m tests.safety.mutation --state .mutation.json

soak: .venv/.dev-ready ## go on with the safety soak for an hour; any number of runs add up
	$(BIN)/python -m tests.safety.soak --minutes 60

# Debian's python3 has no ensurepip: make the environment without pip and
# let the system's pip install into it.
.venv/bin/python:
	$(PYTHON) -m venv --without-pip .venv

.venv/.run-ready: .venv/bin/python requirements/runtime.txt requirements/build.txt pyproject.toml
	$(PIP) install --quiet --require-hashes -r requirements/build.txt
	$(PIP) install --quiet --require-hashes -r requirements/runtime.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev-ready: .venv/.run-ready requirements/dev.txt
	$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

docs: .venv/.dev-ready ## the documentation as HTML, in docs/_build; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q -b html docs docs/_build

package: .venv/.dev-ready ## the wheel and the .deb, in dist/
	PYTHON=$(PYTHON) systemd/package/build

lock: ## pin requirements/*.in again (needs uv)
	for name in runtime dev build energyplus dataset; do \
	  uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url --no-emit-find-links --quiet \
	    requirements/$$name.in --output-file requirements/$$name.txt; done

clean: ## remove what was made
	rm -rf docs/_build docs/reference .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
