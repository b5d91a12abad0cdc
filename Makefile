# The two commands: `make run` starts everything on loopback, `make test` runs the whole test suite.
# Both need nothing but Python 3.11 or newer; the rest is installed into .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN_DIRECTORY ?= run

.PHONY: run test lint coverage bench fuzz quiche docs clean help

help:  ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(BIN)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("connectd needs Python 3.11 or newer; this is %s. Try: make PYTHON=python3.11 ..." % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

$(BIN)/.linting: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	touch $@

$(BIN)/.documenting: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

run: $(BIN)/.installed  ## Start a demonstration on loopback, in the foreground
	@test -f $(RUN_DIRECTORY)/connectd.toml || $(BIN)/connectctl init $(RUN_DIRECTORY)
	@$(BIN)/connectctl --config $(RUN_DIRECTORY)/connectd.toml check
	@sed 's,\.venv/,$(VENV)/,; s,run/,$(RUN_DIRECTORY)/,g' etc/demonstration.txt
	@cd $(RUN_DIRECTORY) && exec $(abspath $(BIN))/twistd --nodaemon --pidfile= connectd --config connectd.toml

test: $(BIN)/.installed  ## Run the whole test suite
	$(BIN)/python $(RUN_WITH) -m twisted.trial $(TRIAL_OPTIONS) $(or $(TESTS),tests)

lint: $(BIN)/.linting  ## Check style, types and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

coverage: $(BIN)/.linting  ## Run the test suite and check the branch coverage of the core
	rm -f .coverage .coverage.*
	$(MAKE) --no-print-directory test RUN_WITH="-m coverage run"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='connectd/protocols/*,connectd/net/*,connectd/admission/*,connectd/sansio.py,connectd/wire.py' --fail-under=95

bench: $(BIN)/.installed  ## Measure what the benchmarks claim
	$(BIN)/python -m benchmarks $(BENCHMARKS)

fuzz: $(BIN)/.installed  ## Fuzz every decoder and machine for a while
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]' || true
	$(BIN)/python -m fuzz $(FUZZ)

quiche:  ## Install a second QUIC stack with npm, which tests then try against ours
	npm install --silent --no-save --no-audit --no-fund --prefix .quiche @matrixai/quic@2.0.9

docs: $(BIN)/.documenting  ## Build the documentation into docs/_build
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

clean:  ## Remove what was built; the demonstration in run/ stays
	rm -rf $(VENV) build dist docs/_build *.egg-info _trial_temp* .coverage* .mypy_cache .ruff_cache .hypothesis .quiche
