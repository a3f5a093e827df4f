# `make demo` and `make test` are all a fresh machine needs: Python 3.11 or newer, and make.
# TORCH=cpu makes a small install (torch and torchvision without CUDA).

PYTHON ?= python3
TORCH ?=
DATA ?= ../shared/data
MODELS ?= ../shared/models
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready$(if $(TORCH),-$(TORCH))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint docs bench encoder

help:            ## say what each target does
	@sed -n 's/^\([a-z-]*\): .*## /  make \1\t/p' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv with everything pinned in requirements.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Similarity needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || sh .ci/install-venv
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(if $(TORCH),--torch-backend $(TORCH)) -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: $(READY)   ## train, index, search and evaluate on phantoms; write a page with the images
	$(BIN)/similarity demo --out runs/demo

test: $(READY) lint  ## lint, types and the whole suite
	@sh .ci/install-chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder \
	  -o faulthandler_exit_on_timeout=true

test-fast: $(READY) lint  ## lint, types and the tests that need no browser, server, training run or subprocess
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not browser and not real_data"

lint: $(READY)   ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)   ## build the documentation into build/site/
	$(BIN)/mkdocs build --strict

encoder: $(READY)  ## train the real-data encoder into runs/real and print its evaluation
	$(BIN)/similarity train --config trainer/recipes/real.toml --out runs/real \
	  --corpus nih-chestxray14:$(DATA)/nih-chestxray14 --corpus openi:$(DATA)/openi \
	  --corpus covid-chestxray:$(DATA)/covid-chestxray \
	  --image-weights $(MODELS)/mobilenetv2_100-imagenet/model.safetensors \
	  $(if $(wildcard runs/real/checkpoints/last.pt),--resume)
	$(BIN)/similarity evaluate --encoder runs/real --queries nih-chestxray14:$(DATA)/nih-chestxray14 \
	  --gallery openi:$(DATA)/openi --truth $(DATA)/openi-truth/openi_gold_std14.csv

bench: $(READY)  ## every benchmark, one table each
	$(BIN)/python -m benchmarks --data $(DATA)
