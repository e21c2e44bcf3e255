# make            set up what is missing, then open the playground
# make test       set up what is missing, then run every test
# make check      format, lint and types
# make bench      how soon it answers, how fast beside TRL, how often a comparison or the coach is wrong, and the plan
# make faults     how reliable it is: every figure, hours of tries, going on where it was cut off
# make lock       write requirements.lock anew: what is installed, with the hashes of its wheels
# make audit      ask for known vulnerabilities in what requirements.lock names; needs the network
#
# PYTHON=python3.12            the Python that .venv is made with (3.11 or newer)
# PLAYGROUND_ARGS="--port 80"  handed to playground.py
# PYTEST_ARGS="-k name"        handed to pytest
# BENCH_ARGS="--data FILE"     handed to the table of speeds
# FAULTS_ARGS="--short"        handed to the figures of reliability
#
# Written for GNU make 3.81, which macOS ships.

VENV_PYTHON := .venv/bin/python
GOOD_PYTHON := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))

ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	command -v $$p >/dev/null 2>&1 && $$p -c '$(GOOD_PYTHON)' >/dev/null 2>&1 && echo $$p && exit; \
	done; echo python3)
endif

.PHONY: all run setup dev-setup test check bench faults mac-check lock audit python

all: run

run: setup
	@echo "Opening the playground (Ctrl-C ends it)"
	@$(VENV_PYTHON) playground.py $(PLAYGROUND_ARGS)

setup: python
	@"$(PYTHON)" tools/setup_env.py

dev-setup: python
	@"$(PYTHON)" tools/setup_env.py --dev

test: dev-setup
	@echo "Running every test"
	@$(VENV_PYTHON) -m pytest -m "not e2e" -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)
	@echo "Running the browser tests"
	@$(VENV_PYTHON) -m pytest -m e2e $(PYTEST_ARGS) || { \
	echo "Once more, those that failed: a busy machine can starve a browser"; \
	$(VENV_PYTHON) -m pytest -m e2e --last-failed $(PYTEST_ARGS); }

check: dev-setup
	@echo "Checking the format"
	@$(VENV_PYTHON) -m ruff format --check .
	@echo "Checking for lint"
	@$(VENV_PYTHON) -m ruff check .
	@echo "Checking the types"
	@$(VENV_PYTHON) -m mypy core

bench: dev-setup
	@$(VENV_PYTHON) -m tests.bench.simulate_comparisons
	@$(VENV_PYTHON) -m tests.bench.coach_table
	@$(VENV_PYTHON) -m tests.bench.predictions
	@$(VENV_PYTHON) -m tests.bench.speed $(BENCH_ARGS)

faults: dev-setup
	@$(VENV_PYTHON) -m tests.faults.figures $(FAULTS_ARGS)

lock: setup
	@$(VENV_PYTHON) tools/lock.py

# In an environment of its own, so that nothing of it is among what it looks at.
audit: python
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && "$(PYTHON)" -m venv "$$folder" && \
	{ "$$folder/bin/python" -m pip install -q pip-audit || { \
	echo "pip-audit could not be fetched: the audit needs the network. Go online and run make audit again." >&2; exit 1; }; } && \
	{ "$$folder/bin/pip-audit" --strict --require-hashes --disable-pip -r requirements.lock || { \
	echo "Either a package above has a known vulnerability, or the service that knows them was not reached:" \
	"its words stand above. torch is not in the lock; look it up by its version." >&2; exit 1; }; }

mac-check: setup
	@$(VENV_PYTHON) tests/mac_check.py

python:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	echo "No Python was found as '$(PYTHON)': install Python 3.11 or newer (python.org, 'brew install python', or" \
	"'sudo apt-get install python3 python3-venv'), or name yours with make PYTHON=/path/to/python3." >&2; exit 1; }
