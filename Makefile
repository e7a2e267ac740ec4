# make demo   the whole pipeline on silicon, in an isolated AiiDA profile under .demo
# make test   environment and tests, from nothing
# make test-nightly   whole runs and restarts that take minutes each; not in `make test`
# make quick  the tests that need neither daemon nor pw.x and take seconds
# make test-torchsim   the engine for GPUs, and the worker without AiiDA, in an environment of their own
# make lint   ruff, mypy, import-linter
# make docs   the documentation, in docs/_build/html
#
# PYTHON    the interpreter that makes .venv (3.11 to 3.13)
# PIP_ARGS  further arguments of pip install, for example the index of CPU builds of torch

SHELL := /bin/bash
PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
# Processes for the tests that run side by side: one more than cores, as those with a daemon wait much of their time.
TEST_PROCESSES ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

BIN := .venv/bin
INSTALLED := .venv/.installed
SKLEARN_EXTRA := .venv/.sklearn-extra
# torch-sim needs Python 3.12. Where .venv has an older one, its tests run in an environment beside it, with the worker alone.
TORCHSIM := .venv-torchsim
TORCHSIM_CANDIDATES := python3.12 python3.13 $(wildcard $(HOME)/.pyenv/versions/3.1[23]*/bin/python)
TORCHSIM_PYTHON ?= $(firstword $(foreach python,$(TORCHSIM_CANDIDATES),$(shell $(python) -c 'import ensurepip, sys; print(sys.executable)' 2>/dev/null)))
TORCHSIM_TESTS := tests/science/test_torchsim.py tests/science/test_torchsim_physics.py tests/science/test_ensembles.py
DEMO := $(CURDIR)/.demo
DEMO_INPUT ?= examples/silicon/input.yaml
PSEUDO_FILE := /usr/share/espresso/pseudo/Si.pbe-rrkj.UPF
PW_PACKAGES := quantum-espresso quantum-espresso-data libopenblas0-serial
POSTGRES_PACKAGES := postgresql locales
SLURM_PACKAGES := slurm-wlm munge
BROWSER_PACKAGES := chromium
COMPILER_PACKAGES := gcc g++ libc6-dev python3-dev
# What runs file by file beside others, the longest first; and what kills or times processes, with less beside it.
SIDE_BY_SIDE := tests/plugin tests/aiida tests/worker/test_alone.py tests/worker/test_worker.py tests/cli tests/config tests/pipeline \
  tests/science tests/test_docs.py
ALONE := tests/worker/test_doctor.py tests/worker/test_training_survival.py tests/worker/test_worker_survival.py
# What `make quick` runs, without what is marked slow, daemon or pw.
QUICK := tests/config tests/pipeline tests/science
# Those that start daemons or ask the graph; the others do not depend on the database. Pipelines run on it at night.
PSQL_TESTS := provenance fixtures fixtures_daemon
PSQL_NIGHTLY := finds_nothing_new or another_level_of_theory or states_come

# Install Debian packages as root; otherwise say what is missing. $(1): what for, $(2): packages.
define install_packages
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(2) \
	    || { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(2); }; \
	else \
	  echo "$(1) is missing. Install the packages (names of Debian and Ubuntu): $(2)" >&2; exit 1; \
	fi
endef

.PHONY: help demo test test-nightly quick test-torchsim test-psql lint docs environment kmedoids pw postgres slurm browser compiler clean

help:
	@sed -n '/^$$/q; s/^# \?//p' Makefile

environment: $(INSTALLED)

kmedoids: $(SKLEARN_EXTRA)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt $(PIP_ARGS) --editable '.[tests,docs,dev]'
	touch $@

# Its wheel was built for NumPy 1 and does not import with NumPy 2. It is built here, against the NumPy of .venv: an
# isolated build may take the oldest NumPy that supports this Python. It takes two minutes and a compiler.
$(SKLEARN_EXTRA): $(INSTALLED)
	@$(MAKE) --no-print-directory compiler
	$(BIN)/pip install --quiet --constraint constraints.txt $(PIP_ARGS) cython setuptools wheel
	$(BIN)/pip install --quiet --constraint constraints.txt $(PIP_ARGS) --no-build-isolation --no-cache-dir \
	  --no-binary scikit-learn-extra scikit-learn-extra
	touch $@

$(TORCHSIM)/.installed: pyproject.toml constraints.txt
	$(TORCHSIM_PYTHON) -m venv $(TORCHSIM)
	$(TORCHSIM)/bin/pip install --quiet --constraint constraints.txt $(PIP_ARGS) --editable '.[torchsim,tests-worker]'
	touch $@

pw:
	@if ! command -v pw.x >/dev/null || [ ! -e $(PSEUDO_FILE) ]; then $(call install_packages,Quantum ESPRESSO (pw.x),$(PW_PACKAGES)); fi

postgres:
	@if ! { { compgen -G '/usr/lib/postgresql/*/bin/pg_ctl' || command -v pg_ctl; } >/dev/null && { locale -a | grep -qiE '^en_US\.utf-?8$$' || [ -f /usr/share/i18n/locales/en_US ]; }; }; then $(call install_packages,PostgreSQL,$(POSTGRES_PACKAGES)); fi

slurm:
	@if ! (PATH=$$PATH:/usr/sbin; command -v slurmctld && command -v munged) >/dev/null; then $(call install_packages,Slurm or MUNGE,$(SLURM_PACKAGES)); fi

browser:
	@if ! { command -v chromium || command -v google-chrome; } >/dev/null; then $(call install_packages,Chromium,$(BROWSER_PACKAGES)); fi

compiler:
	@if ! { command -v gcc && $(BIN)/python -c "import os, sysconfig as s; os.stat(s.get_path('include') + '/Python.h')"; } >/dev/null 2>&1; then $(call install_packages,A C compiler or the headers of Python,$(COMPILER_PACKAGES)); fi

demo: export AIIDA_PATH = $(DEMO)/aiida
demo: $(INSTALLED) pw
	@mkdir -p $(AIIDA_PATH)
	$(BIN)/mlip-autopipe init --yes
	$(BIN)/mlip-autopipe run $(DEMO_INPUT) --output .demo/results
	@echo; echo 'Failed or excepted processes:'
	@$(BIN)/verdi process list --all --failed
	@$(BIN)/verdi daemon stop >/dev/null
	@echo 'The profile stays in .demo/aiida; to look into it: export AIIDA_PATH=$(AIIDA_PATH)'

test: $(INSTALLED) $(SKLEARN_EXTRA) pw slurm browser
	$(BIN)/pytest $(SIDE_BY_SIDE) -m 'not nightly' -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)
	$(BIN)/pytest $(ALONE) -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-nightly: $(INSTALLED) pw slurm postgres
	$(BIN)/pytest -m nightly $(PYTEST_ARGS)
	$(BIN)/pytest tests/aiida/test_autopipe.py -k '$(PSQL_NIGHTLY)' --db-backend psql $(PYTEST_ARGS)
	$(MAKE) test-psql

quick: $(INSTALLED) $(SKLEARN_EXTRA)
	$(BIN)/pytest $(QUICK) -m 'not (slow or daemon or pw or nightly)' -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-torchsim:
ifeq ($(strip $(TORCHSIM_PYTHON)),)
	@echo 'No Python 3.12 or newer was found, so torch-sim is NOT tested here; TORCHSIM_PYTHON=... names one.'
else
	$(MAKE) $(TORCHSIM)/.installed
	$(TORCHSIM)/bin/pytest $(TORCHSIM_TESTS) -m torchsim -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)
	$(TORCHSIM)/bin/pytest tests/worker/test_alone.py $(PYTEST_ARGS)
endif

test-psql: $(INSTALLED) pw postgres
	$(BIN)/pytest $(PSQL_TESTS:%=tests/aiida/test_%.py) -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder \
	  --db-backend psql $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(INSTALLED)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs docs/_build/html

clean:
	rm -rf .venv $(TORCHSIM) .demo docs/_build .pytest_cache .mypy_cache .ruff_cache
