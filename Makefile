# `make help` lists the targets. Everything runs in .venv, which the first call makes.

PYTHON ?= python3
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
export PATH := $(CURDIR)/.venv/bin:$(value PATH)
# Where PyTorch lies without gigabytes of CUDA, for Linux machines without an NVIDIA card
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# The pipeline runs in a temporary folder: relative paths must lead back here, and checkpoints must outlast it
ABSOLUTE = env SCRATCH_FOLDER="$$PWD/scratch" \
    $${CIFAR10_ARCHIVE:+"CIFAR10_ARCHIVE=$$(realpath -- "$$CIFAR10_ARCHIVE")"}
# What one of the files *.overrides changes, as options of `dvc exp run`; its lines may end as on Windows
overrides = $(shell tr -d '\r' < $(1) | sed -n "s/^\([^\#].*\)$$/-S '\1'/p")
# A value from the command line, quoted for the shell. The environment does not count: WSL sets NAME, for example
given = $(if $(filter command,$(firstword $(origin $(1)))),'$(subst ','\'',$(value $(1)))')
# The same as an option: --trials='40' for TRIALS=40
option = $(if $(call given,$(1)),--$(shell echo $(1) | tr A-Z a-z)=$(call given,$(1)))
unexport NAME REV RECIPE IMAGE MODEL DATA JOBS MACS TRIALS SAMPLER BUDGET LONG

# DVC keeps experiments as Git commits. It takes name and address both from Git's settings or both from the environment,
# so both stand here, also where Git knows one of them or none.
export GIT_AUTHOR_NAME := $(or $(GIT_AUTHOR_NAME),$(shell git config user.name 2>/dev/null),nobody)
export GIT_AUTHOR_EMAIL := $(or $(GIT_AUTHOR_EMAIL),$(shell git config user.email 2>/dev/null),nobody@localhost)
export GIT_COMMITTER_NAME := $(or $(GIT_COMMITTER_NAME),$(GIT_AUTHOR_NAME))
export GIT_COMMITTER_EMAIL := $(or $(GIT_COMMITTER_EMAIL),$(GIT_AUTHOR_EMAIL))

.DEFAULT_GOAL := help
.PHONY: help setup demo quick mine repro plan accept try search study test table report page readme minutes predict clean clone

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s%s\n", $$1, $$2 }' Makefile

setup: .venv/installed  ## Create .venv and install the pinned requirements

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, found " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	@if [ "$$(uname)" = Linux ] && ! command -v nvidia-smi > /dev/null; then \
	    echo 'No NVIDIA card: PyTorch is taken from $(TORCH_INDEX)'; \
	    python -m pip install --no-deps --timeout 10 --retries 0 --index-url $(TORCH_INDEX) $$(grep '^torch\(vision\)\?==' requirements.txt) \
	        || echo 'That did not work: PyTorch is taken from PyPI, with CUDA (some gigabytes)'; \
	fi
	python -m pip install -r requirements.txt
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	python -m pip install -r requirements-dev.txt
	@touch $@

clone: .venv/installed
	@python -m scripts.check_clone

repro plan try table report: clone

demo: .venv/installed  ## Run the whole pipeline on the bundled sample, as a DVC experiment (7 minutes on 2 cores)
quick: .venv/installed  ## Run the whole pipeline on CIFAR-10 from scratch, with the recipe fast and a small tree (about an hour)
demo quick:
	@python -m scripts.check_clone --history
	@python -m scripts.check_tree $@.overrides
	@python -m dvc exp remove --quiet $@ 2>/dev/null || true
	$(ABSOLUTE) python -m dvc exp run --temp --name $@ $(call overrides,$@.overrides)
	@echo
	@python -m scripts.table --rev $@
	@printf '%s\n' '' 'The committed results and your working tree are as they were. Next:' \
	    '  source .venv/bin/activate' \
	    '  dvc plots diff HEAD $@    the plots of this experiment beside the committed ones' \
	    '  make table    all experiments' \
	    '  make repro    the full pipeline on CIFAR-10, from the trained network'

mine: .venv/installed  ## Train and compress a network for your own pictures: make mine DATA=folder (docs/use-it.md)
	@python -m scripts.check_clone --history
	@python -m scripts.mine $(call given,DATA)

test: .venv/installed-dev  ## Lint, check types and test (15 minutes on 2 cores)
	python -m ruff check .
	python -m ruff format --check .
	python -m mypy
	python -m pytest -n 2

repro: .venv/installed  ## Run the full pipeline on CIFAR-10; the trained network and three small ones are pulled (about 10 hours; JOBS=2: two stages at once, 5 to 6 hours)
	@python -m scripts.check_tree
	@python -m scripts.pull
	$(if $(call given,JOBS),python -m scripts.jobs $(call given,JOBS),python -m dvc repro)

plan: .venv/installed  ## Print what `make repro` would run, and the minutes it took last time
	@python -m scripts.plan

accept: .venv/installed  ## Accept the committed results for code that computes the same as before
	@python -m checks.accept

try: .venv/installed  ## Make one recipe from the trained network, and time it beside dense: make try RECIPE=name
	@python -m scripts.try_recipe $(call given,RECIPE)

search: .venv/installed  ## Search for the best network of at most MACS multiplications: make search MACS=75e6 TRIALS=40 (docs/use-it.md)
	@python -m scripts.search $(call given,MACS) $(foreach name,TRIALS SAMPLER BUDGET LONG,$(call option,$(name)))

study: .venv/installed  ## Run one of the studies: make study NAME=separation (studies/README.md lists all)
	@python -m studies.$(or $(call given,NAME),$(error say which: make study NAME=separation; studies/README.md lists all))

table: .venv/installed  ## List the experiments, with lines of at most 120 characters
	@COLUMNS=120 python -m dvc exp show --no-pager --drop '.*' \
	    --keep 'Experiment$$|download.source$$|(metrics/summary.json:)?(dense_val_accuracy|flagship_val_accuracy|flagship_bytes)$$'

report: .venv/installed  ## Write all results into one page, report.html: make report, or make report REV=experiment-or-commit
	@python -m scripts.report $(if $(call given,REV),--rev=$(call given,REV))

page: .venv/installed  ## Build a page that classifies pictures in the browser, as a static folder
	@python -m scripts.page

readme: .venv/installed  ## Write the table of results into README.md
	python -m checks.readme

minutes: .venv/installed  ## Write into docs/minutes.csv how long the stages took that ran here
	python -m checks.minutes

predict: .venv/installed  ## Classify a picture with the flagship, or another file: make predict IMAGE=path MODEL=path
	@python -m scripts.predict $(call given,IMAGE) $(if $(call given,MODEL),--model=$(call given,MODEL))

clean:  ## Delete .venv, caches, checkpoints and logs (DVC's cache of results is kept)
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache scratch logs dvc_plots report.html page mine
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
