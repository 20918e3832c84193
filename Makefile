# One word per habit. Every target is safe to repeat.
PYTHON ?= $(shell sh -c 'command -v python3.11 || command -v python3')
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# DVC runs the stages with the `python` that it finds first.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup check repro test coverage lint bench docs lock viewer

help:
	@echo "make setup   create $(VENV) from requirements.lock     (about 4 minutes, 7 GB, once)"
	@echo "make check   lint, types and the unit tests not marked slow"
	@echo "make repro   rebuild the whole pipeline with dvc repro (about 20 minutes on two cores)"
	@echo "make test    run the tests                             (about 20 minutes on two cores)"
	@echo "make coverage  the tests but e2e, and what they miss of each room"
	@echo "make lint    ruff and mypy                             (under a minute)"
	@echo "make bench   speed of the kernels beside their peers   (about 3 minutes)"
	@echo "make docs    the pages as a site, build/docs/index.html  (under a minute)"
	@echo "make viewer  fetch NiiVue again, for petct view          (needs npm; after a new version)"
	@echo "make lock    pin what pyproject.toml asks for again, with hashes"

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@echo "==> creating $(VENV) and installing the pinned packages (about 4 minutes, 7 GB)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed: install it, or run make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(READY)
	@echo "==> ready: source $(BIN)/activate"

repro: $(READY)
	@echo "==> dvc repro (about 20 minutes on two cores the first time, seconds afterwards)"
	$(BIN)/dvc repro

# A file of tests stays in one process, and the longest, whole pipelines, comes first.
test: $(READY)
	@echo "==> tests (about 20 minutes on two cores)"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

ROOMS := $(notdir $(patsubst %/,%,$(dir $(wildcard src/petct_uad/*/__init__.py))))

# What to run between two edits; the tests marked slow wait for make test.
check: lint
	@echo "==> the unit tests that are not marked slow"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet --numprocesses 2 --dist loadfile \
	  -m "not slow" tests/unit

# The e2e tests run in clones, whose files are not counted. What was covered is shown whether or not
# a test failed; the exit status is that of the tests.
coverage: $(READY)
	@echo "==> tests with coverage"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not e2e" \
	  --cov --cov-report=; tested=$$?; \
	for room in $(ROOMS); do \
	  printf '%-14s %4s %%\n' $$room \
	    "$$($(BIN)/coverage report --format total --include "src/petct_uad/$$room/*")"; \
	done; \
	$(BIN)/coverage report --skip-covered --sort cover; \
	exit $$tested

lint: $(READY)
	@echo "==> ruff and mypy"
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The others take hours, or data of their own: docs/benchmarks.md.
BENCHMARKS := "selective_scan.py --runs 10" ss2d.py precision.py reverse_distillation.py \
              "ingest.py --runs 2" "lineage.py speed" "false_positives.py --cohorts 100"

bench: $(READY)
	@echo "==> benchmarks (about 3 minutes)"
	@for line in $(BENCHMARKS); do echo "--> benchmarks/$$line"; $(BIN)/python benchmarks/$$line || exit 1; done

# A link that leads nowhere fails it. No page of it asks for anything outside itself.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --config-file docs/site/mkdocs.yml
	@echo "==> build/docs/index.html"

# For every platform at once, with the hashes of PyPI. What is pinned stays; delete the file first to
# take the newest of everything.
lock:
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra export --extra cluster --extra docs --extra cohorts --extra remotes --universal --generate-hashes \
	  --no-annotate --no-header --quiet --output-file requirements.lock

# What petct view draws with lies in git; this is for a new version of it.
viewer: $(READY)
	$(BIN)/python -m petct_uad.viewer.vendor
