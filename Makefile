# Everything runs in .venv, made with nothing but Python 3.11 to 3.13; `make clean test PYTHON=python3.13` picks one.

supported := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(supported)' 2>/dev/null && echo $$p && break; done)
bin := .venv/bin
ready := .venv/.ready

# Hundreds of processes start in the tests, and each would compile all modules.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test watchers fuzz chaos bench soak lint pages site kafka lock release clean

demo: $(ready)
	$(bin)/meterwatch demo

test: $(ready) watchers
	$(bin)/pytest -q -m "not broker" -n auto --dist worksteal
	$(bin)/pytest -q -m broker -n 3 --dist worksteal

# A real Prometheus, Alertmanager and PostgreSQL for the tests on them, which are skipped without.
packages := prometheus prometheus-alertmanager postgresql
apt := DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(packages)
watchers:
	@{ command -v promtool && ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1 || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
		|| $(apt) >/dev/null 2>&1 || { apt-get update -qq && $(apt) >/dev/null; }

MINUTES ?= 5
fuzz: $(ready)
	$(bin)/python -m tests.fuzz $(MINUTES)

KILLS ?= 100
chaos: $(ready)
	$(bin)/python -m tests.chaos --kills $(KILLS) $(addprefix --seed ,$(SEED)) $(addprefix --share ,$(SHARE))

bench: $(ready)
	$(bin)/python -m bench $(ARGS)

soak: $(ready)
	$(bin)/python -m bench.soak $(ARGS)

lint: $(ready)
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/mypy
	$(bin)/lint-imports
	$(bin)/python -m tests.house

pages: $(ready)
	$(bin)/python -m schemas.documents
	$(bin)/python -m detectors.catalogue
	$(bin)/python -m tests.examples
	$(bin)/python -m tests.dashboards

# docs/ as a site, in site/. A wrong link or anchor is an error, but not with --quiet, which drops what --strict counts.
site: $(ready)
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --strict

kafka: $(ready)
	$(bin)/python -m streams.kafka.broker

lock: $(ready)
	$(bin)/uv pip compile pyproject.toml --extra all --output-file requirements.lock $(lock_options)
	$(bin)/uv pip compile pyproject.toml --extra dev --constraint requirements.lock --output-file requirements-dev.lock $(lock_options)

release: $(ready)
	.ci/release

lock_options := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command 'make lock'

$(ready): requirements-dev.lock pyproject.toml
	@test -n '$(PYTHON)' || { echo 'meterwatch needs Python 3.11, 3.12 or 3.13 on the path'; exit 1; }
	@$(bin)/python -c '$(supported)' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(bin)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(bin)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf .venv .kafka site
