# make demo                  ask about three clips: tables, demo/report.json, demo/*.png
# make test                  ruff, mypy and the tests that are not slow: about 12 minutes on 2 cores;
#                            a third more with COVERAGE=yes, which is the gate that CI sets
# make test-all              the same with the slow tests, which are the full matrix of families,
#                            methods, prompt shapes, decoding modes and devices: more than half an hour
#                            on 2 cores; a time table by folder follows
# make test-releases         the test groups on the oldest and the newest supported transformers
# make test-releases-quick   the 3-minute part of it that CI runs
# make canary                the newest of everything in a throw-away environment: five lines say
#                            what broke
# make clean                 remove all that the others made
# make                       set up .venv only, which all others do first where it is missing

# The first Python 3.11 or newer that is found; `make PYTHON=/path/to/python3.11` overrides.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
	path=$$(command -v $$name) && "$$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && echo "$$path" && break; done)
BIN := .venv/bin
# Test processes; every one of them computes with one thread.
WORKERS ?= 2
READY := .venv/.installed
# "yes" measures coverage, and fails below the gate in setup.cfg.
COVERAGE ?=
COVER = $(if $(filter yes,$(COVERAGE)),--cov --cov-report=term)
# Further options of test-releases and canary, e.g. OPTIONS='--constraint constraints.txt'.
OPTIONS ?=

.DEFAULT_GOAL := setup
.PHONY: setup demo test test-all test-releases test-releases-quick canary clean

NEED_PYTHON = if [ -z "$(PYTHON)" ]; then \
	echo "No Python 3.11 or newer was found. Install one with its venv module," \
		"or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; fi

setup: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/python ]; then \
		$(NEED_PYTHON); \
		echo "Making .venv with $(PYTHON)"; \
		"$(PYTHON)" -m venv .venv || { rm -rf .venv; exit 2; }; fi
	@echo "Installing into .venv (once; torch is several gigabytes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e '.[media,viz,dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/fastav demo --output demo

test: WHAT := ruff, mypy and the tests that are not slow: about 12 minutes on 2 cores
test-all: WHAT := ruff, mypy and all tests: more than half an hour on 2 cores
test: TESTS := -m "not slow" --dist loadfile
# One slow test may take as long as a file of others: a process that is done takes tests of the rest.
test-all: TESTS := -p tests.support.time_table --dist worksteal
test test-all: $(READY)
	@echo "$(WHAT)"
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(TESTS) -n $(WORKERS) --max-worker-restart 0 $(COVER)

test-releases-quick: QUICK := --quick
test-releases test-releases-quick: $(READY)
	@$(BIN)/python -m tests.releases $(QUICK) -n $(WORKERS) $(OPTIONS)

canary:
	@$(NEED_PYTHON)
	@"$(PYTHON)" -m tests.canary $(OPTIONS)

clean:
	rm -rf .venv .releases demo build dist *.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
