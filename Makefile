# `make help` lists the targets. Everything runs in .venv, which the first call makes.

PYTHON ?= python3
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
export PATH := $(CURDIR)/.venv/bin:$(PATH)
NETWORK = models/networks/vgg16.safetensors
# Where PyTorch lies without gigabytes of CUDA, for Linux machines without an NVIDIA card
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# The pipeline runs in a temporary folder: relative paths must lead back here, and checkpoints must outlast it
ABSOLUTE = SCRATCH_FOLDER="$(CURDIR)/scratch" \
    $(if $(CIFAR10_ARCHIVE),CIFAR10_ARCHIVE="$$(realpath -- "$$CIFAR10_ARCHIVE")")
# What one of the files *.overrides changes, as options of `dvc exp run`
overrides = $(shell sed -n "s/^\([^\#].*\)$$/-S '\1'/p" $(1))

# DVC keeps experiments as Git commits, so a machine where Git knows no user needs a name for them.
ifeq ($(shell git config user.email),)
export GIT_AUTHOR_NAME ?= nobody
export GIT_AUTHOR_EMAIL ?= nobody@localhost
export GIT_COMMITTER_NAME ?= $(GIT_AUTHOR_NAME)
export GIT_COMMITTER_EMAIL ?= $(GIT_AUTHOR_EMAIL)
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo quick repro plan accept try study test table report readme minutes predict clean

help:  ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1@\2/p' Makefile | column -t -s @

setup: .venv/installed  ## Create .venv and install the pinned requirements

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, found " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	@if [ "$$(uname)" = Linux ] && ! command -v nvidia-smi > /dev/null; then \
	    echo 'No NVIDIA card: PyTorch is taken from $(TORCH_INDEX)'; \
	    pip install --no-deps --timeout 10 --retries 0 --index-url $(TORCH_INDEX) $$(grep '^torch\(vision\)\?==' requirements.txt) \
	        || echo 'That did not work: PyTorch is taken from PyPI, with CUDA (some gigabytes)'; \
	fi
	pip install -r requirements.txt
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	pip install -r requirements-dev.txt
	@touch $@

demo: .venv/installed  ## Run the whole pipeline on the bundled sample, as a DVC experiment (5 minutes on 2 cores)
quick: .venv/installed  ## Run the whole pipeline on CIFAR-10 from nothing, with the recipe fast and a small tree (about an hour)
demo quick:
	@python -m scripts.check_tree $@.overrides
	@dvc exp remove --quiet $@ 2>/dev/null || true
	$(ABSOLUTE) dvc exp run --temp --name $@ $(call overrides,$@.overrides)
	@echo
	@python -m scripts.table --rev $@
	@printf '%s\n' '' 'The committed results and your working tree are as they were. Next:' \
	    '  source .venv/bin/activate' \
	    '  dvc plots diff HEAD $@    the plots of this experiment beside the committed ones' \
	    '  make table    all experiments' \
	    '  make repro    the full pipeline on CIFAR-10, from the trained network'

test: .venv/installed-dev  ## Lint, check types and test (under 10 minutes on 2 cores)
	ruff check .
	ruff format --check .
	mypy
	pytest -n 2

repro: .venv/installed  ## Run the full pipeline on CIFAR-10 from the trained network, which is pulled (about 2 hours 30 minutes)
	@python -m scripts.check_tree
	test -e $(NETWORK) || dvc pull $(NETWORK) || echo 'The trained network cannot be pulled; it will be trained.'
	dvc repro

plan: .venv/installed  ## Print what `make repro` would run, and the minutes it took last time
	@python -m scripts.plan

accept: .venv/installed  ## Accept the committed results for code that computes the same as before
	@python -m checks.accept

try: .venv/installed  ## Make one recipe from the trained network, and time it beside dense: make try RECIPE=name
	@python -m scripts.try_recipe $(RECIPE)

study: .venv/installed  ## Run one of the studies: make study NAME=separation (studies/README.md lists all)
	@python -m studies.$(or $(NAME),$(error say which: make study NAME=separation; studies/README.md lists all))

table: .venv/installed  ## List the experiments, with lines of at most 120 characters
	@COLUMNS=120 dvc exp show --no-pager --drop '.*' \
	    --keep 'Experiment$$|download.source$$|(metrics/summary.json:)?(dense_val_accuracy|flagship_val_accuracy|flagship_bytes)$$'

report: .venv/installed  ## Write all results into one page, report.html: make report, or make report REV=experiment-or-commit
	@python -m scripts.report $(if $(REV),--rev "$(REV)")

readme: .venv/installed  ## Write the table of results into README.md
	python -m checks.readme

minutes: .venv/installed  ## Write into docs/minutes.csv how long the stages took that ran here
	python -m checks.minutes

predict: .venv/installed  ## Classify a picture with the flagship: make predict IMAGE=path
	@python -m scripts.predict $(if $(IMAGE),"$(IMAGE)")

clean:  ## Delete .venv, caches, checkpoints and logs (DVC's cache of results is kept)
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache scratch logs dvc_plots report.html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
