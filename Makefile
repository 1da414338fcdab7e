# `make help` lists the targets. Everything runs in .venv, which the first call makes.

PYTHON ?= python3
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
export PATH := $(CURDIR)/.venv/bin:$(PATH)
DEMO_OVERRIDES = $(shell sed -n "s/^\([^\#][^ ]*\).*/-S '\1'/p" demo.overrides)

# DVC keeps experiments as Git commits, so a machine where Git knows no user needs a name for them.
ifeq ($(shell git config user.email),)
export GIT_AUTHOR_NAME ?= nobody
export GIT_AUTHOR_EMAIL ?= nobody@localhost
export GIT_COMMITTER_NAME ?= $(GIT_AUTHOR_NAME)
export GIT_COMMITTER_EMAIL ?= $(GIT_AUTHOR_EMAIL)
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint repro table readme predict clean

help:  ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1@\2/p' Makefile | column -t -s @

setup: .venv/installed  ## Create .venv and install the pinned requirements

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, found " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	pip install --quiet -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	pip install --quiet -r requirements-dev.txt
	touch $@

demo: .venv/installed  ## Run the whole pipeline on the bundled sample, as a DVC experiment (3 to 4 minutes on 2 cores)
	@python -m scripts.check_tree demo.overrides
	@dvc exp remove --quiet demo 2>/dev/null || true
	dvc exp run --temp --name demo $(DEMO_OVERRIDES)
	@echo
	@python -m scripts.table --rev demo
	@printf '%s\n' '' 'The committed results and your working tree are as they were. Next:' \
	    '  source .venv/bin/activate' \
	    '  dvc plots diff HEAD demo      the plots of this experiment beside the committed ones' \
	    '  dvc exp show                  all experiments' \
	    '  make repro                    the full pipeline on CIFAR-10'

test: .venv/installed-dev  ## Lint and test (under 10 minutes on 2 cores)
	ruff check .
	ruff format --check .
	pytest -n 2

repro: .venv/installed  ## Run the full pipeline on CIFAR-10; stages that are up to date are skipped
	@python -m scripts.check_tree
	dvc repro

table: .venv/installed  ## List the experiments, with lines of at most 120 characters
	@COLUMNS=120 dvc exp show --no-pager --drop '.*' \
	    --keep 'Experiment$$|download.source$$|(metrics/summary.json:)?(dense_test_accuracy|flagship_test_accuracy|flagship_bytes_ratio)$$'

readme: .venv/installed  ## Write the table of results into README.md
	python -m scripts.readme

predict: .venv/installed  ## Classify a picture with the flagship: make predict IMAGE=path
	@python -m scripts.predict $(if $(IMAGE),"$(IMAGE)")

clean:  ## Delete .venv, caches, checkpoints and logs (DVC's cache of results is kept)
	rm -rf .venv .pytest_cache .ruff_cache scratch logs dvc_plots
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
