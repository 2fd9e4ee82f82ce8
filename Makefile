# `make demo` and `make test` set themselves up; only Python 3.11+ and make need to be installed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export PYTHONPATH := $(CURDIR)/plugins:$(CURDIR)
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Where the environment says so, each process would compile all sources for itself.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo ls answer up fleet fleet-status fleet-down fleet-faults test test-airflow test-fleet test-cases test-s3 test-sftp test-connectors test-dags test-units kills check format lock sbom schema commands validate bench clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

install: $(STAMP) ## create .venv from the pinned requirements
$(STAMP): requirements.txt requirements-dev.txt requirements-uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)")'
	@echo "Installing the pinned requirements into $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-uv.txt
	@$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --no-deps --require-hashes -r requirements.txt -r requirements-dev.txt
	@touch $@

demo: $(STAMP) ## start everything, deliver four days to every target, show it, stop
	@$(BIN)/python -m demo run

ls: $(STAMP) ## show where the demo customers' files are, and how to look at them
	@$(BIN)/python -m demo ls

answer: $(STAMP) ## load what the demo delivered and answer a question with it
	@$(BIN)/python -m demo.answer

up: $(STAMP) ## start everything and keep it running; Ctrl-C stops it
	@$(BIN)/python -m demo up

fleet: $(STAMP) ## run the compose file's services as plain processes, with three workers; Ctrl-C stops them
	@$(BIN)/python -m tests.fleet up 3

fleet-status: $(STAMP) ## show what of `make fleet` runs, and how it does
	@$(BIN)/python -m tests.fleet status

fleet-down: $(STAMP) ## stop what `make fleet` runs; tasks may end first
	@$(BIN)/python -m tests.fleet down

fleet-faults: $(STAMP) ## nightly: strike a fleet with every fault while it exports; SEED=, ARGS=--short; 65 to 75 minutes
	@$(BIN)/python -m tests.fleet.faults $(if $(SEED),--seed $(SEED)) $(ARGS)

# Says where the time went.
SLOWEST = --durations 25 --durations-min 3
# All parts at once: what waits for an Airflow leaves the processors to what does not, and has them first, since it
# takes longest. Each part is shown when it is over.
SYNC = $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
test: $(STAMP) ## run all tests
	@$(MAKE) --no-print-directory --jobs 7 $(SYNC) test-airflow test-fleet $(CASES)

test-airflow: # all on one Airflow
	@$(BIN)/python -m pytest -m e2e $(SLOWEST) tests/e2e tests/ui

test-fleet: # docker-compose.yaml's services
	@$(BIN)/python -m pytest -m e2e $(SLOWEST) tests/fleet

# The others in five parts, each in one process, which imports what its part needs and starts each server once.
CASES = test-s3 test-sftp test-connectors test-dags test-units
IN_ONE_PROCESS = nice -n 5 $(BIN)/python -m pytest -m "not e2e" $(SLOWEST)
test-cases: # all that needs neither
	@$(MAKE) --no-print-directory --jobs 5 $(SYNC) $(CASES)

test-s3 test-sftp: test-%: # which mostly wait
	@$(IN_ONE_PROCESS) tests/connectors/$*

test-connectors: # the others
	@$(IN_ONE_PROCESS) tests/connectors --ignore tests/connectors/s3 --ignore tests/connectors/sftp

WITH_AIRFLOW = tests/commands tests/dags tests/page
test-dags: # and the commands and the page, with Airflow's API server
	@$(IN_ONE_PROCESS) $(WITH_AIRFLOW)

test-units: # and whatever is no other part's
	@$(IN_ONE_PROCESS) $(patsubst %,--ignore %,tests/connectors $(WITH_AIRFLOW))

kills: $(STAMP) ## run the nightly proof: 200 kills of a delivery on every connector
	@DATA_EXPORT_TEST_KILLS=200 $(BIN)/python -m pytest tests/connectors/test_kills.py

check: $(STAMP) ## check format, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy plugins demo dags

bench: $(STAMP) ## measure speed and memory beside other tools, and write benchmarks/README.md; ONLY="images page"
	@$(BIN)/python -m benchmarks $(ONLY)

format: $(STAMP) ## format the sources
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

validate: $(STAMP) ## list every problem in every customer file
	@$(BIN)/python -m data_export_airflow validate

schema: $(STAMP) ## generate include/schemas/customer.schema.json from the models
	@$(BIN)/python -m data_export.config.schema

commands: $(STAMP) ## generate docs/commands.md from the commands, docs/errors.md and the page's from the guide
	@$(BIN)/python -m data_export_airflow.commands.reference

# Every file by its hash; without what providers ask for and nothing here imports (requirements-excluded.txt).
COMPILE = $(BIN)/uv pip compile --quiet --no-header --no-emit-index-url --universal --python-version 3.11 \
	--generate-hashes --excludes requirements-excluded.txt

lock: $(STAMP) ## compile requirements*.txt from requirements*.in
	@$(COMPILE) requirements.in -o requirements.txt
	@$(COMPILE) requirements-dev.in -o requirements-dev.txt
	@echo "uv==0.13.*" | $(COMPILE) - -o requirements-uv.txt

sbom: $(STAMP) ## write sbom.json, the software bill of materials (CycloneDX) of requirements.txt
	@$(BIN)/cyclonedx-py requirements --output-reproducible --spec-version 1.6 --output-format JSON --output-file sbom.json requirements.txt

clean: ## remove the state folder (the virtual environment stays)
	@rm -rf .state
