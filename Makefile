# `make demo` and `make test` do all their set-up; nothing else need be installed than Python 3.11+ and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export PYTHONPATH := $(CURDIR)/plugins:$(CURDIR)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install demo up test kills check format lock schema commands validate bench clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(STAMP) ## .venv from the pinned requirements
$(STAMP): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)")'
	@echo "Installing the pinned requirements into $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt -r requirements-dev.txt
	@touch $@

demo: $(STAMP) ## start everything, deliver three days to four customers, show it, stop
	@$(BIN)/python -m demo run

up: $(STAMP) ## start everything and stay; Ctrl-C stops it
	@$(BIN)/python -m demo up

# In the order of the folders: xdist would begin with the files of many tests, and end with slow ones on one worker.
test: $(STAMP) ## all tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not e2e"
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m e2e

kills: $(STAMP) ## the nightly proof: 200 kills of a delivery on every connector
	@DATA_EXPORT_TEST_KILLS=200 $(BIN)/python -m pytest tests/connectors/test_kills.py

check: $(STAMP) ## format, lint, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy plugins demo dags

bench: $(STAMP) ## speed and memory of extract and transform beside other ways; some 10 minutes
	@$(BIN)/python -m benchmarks.data_path

format: $(STAMP) ## rewrite the sources in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

validate: $(STAMP) ## every problem of every customer file
	@$(BIN)/python -m data_export_airflow validate

schema: $(STAMP) ## include/schemas/customer.schema.json from the models
	@$(BIN)/python -m data_export.config.schema

commands: $(STAMP) ## docs/commands.md from the commands
	@$(BIN)/python -m data_export_airflow.commands.reference

lock: $(STAMP) ## requirements*.txt from requirements*.in
	@$(BIN)/uv pip compile --quiet --no-header --no-emit-index-url --universal --python-version 3.11 requirements.in -o requirements.txt
	@$(BIN)/uv pip compile --quiet --no-header --no-emit-index-url --universal --python-version 3.11 requirements-dev.in -o requirements-dev.txt

clean: ## remove the state folder (the virtual environment stays)
	@rm -rf .state
