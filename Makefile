# What one does with this repository. `make` alone lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
bin := .venv/bin
lock := $(bin)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' pyproject.toml

.PHONY: help run cluster test test-kubernetes chaos gates kafka kubernetes helm image browser heroku receivers format tables lock wheel bench clean

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

run: .venv/.installed-run ## Set up what is needed and run the service with the example app
	@$(bin)/logsvc dev --procfile examples/Procfile --app demo

cluster: .venv/.installed-test kafka ## Set up what is needed and run the service as roles, on Kafka and ClickHouse
	@$(bin)/python -m scripts.cluster

test: gates kafka heroku receivers ## Set up what is needed, then all gates and all tests
	$(bin)/pytest --cov --cov-report= --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
		--ignore tests/kubernetes --ignore tests/chaos
	$(bin)/pytest --cov --cov-append tests/chaos --ignore tests/chaos/kafka

test-kubernetes: .venv/.installed-test kafka kubernetes helm image ## Run the tests on a real Kubernetes of this machine's own; needs root
	$(bin)/pytest --timeout 900 tests/kubernetes

chaos: .venv/.installed-test kafka ## Break the roles, Kafka and ClickHouse under load, for 10 minutes (MINUTES=30)
	CHAOS_MINUTES=$(or $(MINUTES),10) $(bin)/pytest -q tests/chaos/kafka

gates: .venv/.installed-test browser ## Format, lint, types and layers, without the tests
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/mypy
	$(bin)/lint-imports --no-logo
	node_modules/.bin/tsc

kafka: ## Get Apache Kafka, for the tests and benchmarks on it
	@scripts/kafka.sh

kubernetes: ## Build Kubernetes for the tests on it, once (up to 10 minutes); needs root and Go
	@scripts/kubernetes.sh setup

helm: ## Build Helm, for the tests of the chart; needs Go
	@scripts/helm.sh

image: ## Make the Debian that the image is built on, for the tests of the chart; needs root
	@scripts/image.sh setup

heroku: ## Get the heroku command line, for the tests of Heroku's API
	@scripts/heroku.sh

receivers: ## Get rsyslog and syslog-ng, for the tests of drains
	@scripts/receivers.sh

browser: ## Get Chromium, and what checks the types and the accessibility of the log pane
	@scripts/browser.sh

format: .venv/.installed-test ## Format the code and make the fixes that are safe
	$(bin)/ruff format .
	$(bin)/ruff check --fix .

tables: .venv/.installed-test ## Write the settings and metrics into docs/operations.md
	$(bin)/python -m scripts.tables

lock: .venv/.installed-test ## Remake requirements/ from pyproject.toml (UPGRADE=1: with the newest versions)
	$(lock) $(if $(UPGRADE),--upgrade) --extra embedded --group build --output-file requirements/run.txt
	$(lock) $(if $(UPGRADE),--upgrade) --extra embedded --group build --group dev \
		--constraint requirements/run.txt --output-file requirements/test.txt
	$(lock) $(if $(UPGRADE),--upgrade) --group build \
		--constraint requirements/run.txt --output-file requirements/roles.txt

wheel: .venv/.installed-test ## Build the wheel and check that nothing is missing in it
	rm -rf .cache/wheel build
	$(bin)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir .cache/wheel .
	$(bin)/python scripts/check_wheel.py .cache/wheel/*.whl

bench: .venv/.installed-test kafka ## Run the benchmarks: tables here, JSON in .cache/benchmarks
	@for file in $$(grep -l __main__ benchmarks/*.py); do \
		echo "==> $$file"; $(bin)/python -m "benchmarks.$$(basename "$$file" .py)"; done

clean: ## Remove what was built and installed here; the data folder stays
	rm -rf .venv .cache build node_modules *.egg-info .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis .coverage .coverage.*

.venv/.installed-%: requirements/%.txt pyproject.toml scripts/setup.sh
	@scripts/setup.sh $*
