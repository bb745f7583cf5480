# Works with GNU make 3.81 and newer. Needs Python 3.11 or newer, and nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
UNFINISHED := $(VENV)/unfinished
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --no-input
COMPILE := pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header $(if $(UPGRADE),--upgrade) pyproject.toml

# Whatever the environment says: what one process of the tests has compiled, the others find.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo check style core apart test chaos bench bench-peers pictures numbers reference run lock

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' \
		$(firstword $(MAKEFILE_LIST))

setup: $(READY) ## Create .venv and install what is locked, and Fermata itself (PYTHON=python3.12 picks another Python)

# The stamp is written last; what an interrupted run left behind is not built upon.
$(READY): requirements.lock requirements-dev.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
		echo "setup: there is no $(PYTHON): install Python 3.11 or newer, or name one: make setup PYTHON=…" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "setup: $(PYTHON) is $$($(PYTHON) --version 2>&1), and Fermata needs 3.11 or newer: make setup PYTHON=python3.12" >&2; \
		exit 1; }
	@rm -f $(READY)
	@test ! -e $(UNFINISHED) && \
		$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "setup: creating $(VENV) with $$($(PYTHON) --version)"; \
		$(PYTHON) -m venv --clear $(VENV); }
	@touch $(UNFINISHED)
	@echo "setup: installing $$(grep -c '^[a-z]' requirements-dev.lock) locked packages (a minute or so the first time)"
	@$(PIP) --require-hashes --requirement requirements-dev.lock
	@echo "setup: installing Fermata itself"
	@$(PIP) --no-deps --no-build-isolation --editable .
	@rm -f $(UNFINISHED)
	@touch $(READY)

demo: $(READY) ## Show the main job end to end, on a simulated provider; the music lands in demo-output/
	$(BIN)/fermata demo

# Unit tests that have little to do with worker/core: what they cover there does not count.
APART := tests/unit/test_agreement.py tests/unit/test_manifest.py \
	$(wildcard tests/unit/test_simulator_*.py)

check: $(READY) ## Lint, format, types, import rules and unit tests: under a minute
	@echo "check: style, worker/core with its coverage, and the other unit tests, two at a time"
	@$(MAKE) --no-print-directory --jobs=2 \
		$(if $(filter output-sync,$(.FEATURES)),--output-sync=target) core style apart

style: $(READY) ## Lint, format, types and import rules alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

core: $(READY) ## Unit tests, with the coverage of worker/core
	$(BIN)/coverage run -m pytest tests/unit $(APART:%=--ignore=%)
	$(BIN)/coverage report

apart: $(READY) ## The unit tests that are not counted for that coverage
	$(BIN)/python -m pytest $(APART)

# Tests mostly wait: more of them run at once than there are cores (tests/side_by_side.py).
test: check ## Everything in check, then all other tests, on a real Valkey and real workers
	$(BIN)/python -m pytest -n auto --dist loadgroup --no-loadscope-reorder \
		tests/architecture tests/integration tests/chaos tests/acceptance

chaos: $(READY) ## Break it: 2,000 jobs and 200 faults, five times over; half an hour, the table lands in .fermata/chaos
	$(BIN)/python -m tests.chaos

bench: $(READY) ## Measure on real processes for five minutes, each figure a ratio; the table lands in benchmarks/README.md
	$(BIN)/python -m benchmarks --write

bench-peers: $(READY) ## Measure beside DBOS, Restate and plain Celery, fetched for this run; the table lands there too
	$(BIN)/python -m benchmarks.peers --write

pictures: $(READY) ## Take the pictures in docs/desk/ anew, of flows on the simulated provider (needs chromium)
	$(BIN)/python -m tests.acceptance.pictures

numbers: $(READY) ## Print the numbers that the house is held to, with their limits and goals
	$(BIN)/python -m tests.architecture.numbers

reference: $(READY) ## Write tasks/, docs/operations.md and the names in fermata_client/ from the table of operations
	$(BIN)/python -m worker.reference
	$(BIN)/ruff format --quiet tasks fermata_client

run: $(READY) ## Run the whole system here until Ctrl-C: Valkey, simulator, receiver, worker, desk, beat
	$(BIN)/fermata dev

lock: ## Renew both lock files with uv, installed in a temporary place (UPGRADE=1 takes newer versions)
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && trap 'exit 130' INT TERM && \
	echo "lock: fetching uv into $$tools" && \
	$(PYTHON) -m venv "$$tools" && \
	"$$tools/bin/python" -m pip --disable-pip-version-check install -qq uv && \
	echo "lock: resolving requirements.lock" && \
	"$$tools/bin/uv" $(COMPILE) -o requirements.lock && \
	echo "lock: resolving requirements-dev.lock" && \
	"$$tools/bin/uv" $(COMPILE) --group dev -o requirements-dev.lock
