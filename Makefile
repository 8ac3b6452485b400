# All targets work from a fresh checkout with Python 3.11; they create .venv and install what they need.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUTPUT ?= demo_output
GPU_OUTPUT ?= gpu_results
LINKS := .cache/package

.PHONY: demo tiny test acceptance gpu lint docs clean

# The data half needs no torch, so the demo does not wait for it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[curate]"
	touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,docs,curate,bench,evaluation,raster,blenderproc,parquet,s3,gpu-cu13]"
	touch $@

.DEFAULT_GOAL := help
.PHONY: help
help:  ## List the targets.
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(VENV)/.installed  ## Curate the sample assets into shards, at reduced settings.
	$(BIN)/helix4d samples --output $(DEMO_OUTPUT)/assets
	$(BIN)/helix4d curate --source $(DEMO_OUTPUT)/assets --output $(DEMO_OUTPUT)/shards \
		--resolution 128 --views 4 --image-size 192 --assets-per-shard 4

TINY := $(DEMO_OUTPUT)/tiny
tiny: $(VENV)/.developing $(DEMO_OUTPUT)/shards/summary.json  ## Train tiny VAEs and all three stages on the demo's shards and generate meshes, on a CPU.
	$(BIN)/helix4d vae --config configs/tiny/vae.yaml --set shards=$(DEMO_OUTPUT)/shards --set output=$(TINY)/models
	$(BIN)/helix4d encode --shards $(DEMO_OUTPUT)/shards --output $(TINY)/latents --models $(TINY)/models \
		--occupancy-resolution 16
	for stage in structure geometry material; do \
		$(BIN)/helix4d train --config configs/tiny/$$stage.yaml --set data.latents=$(TINY)/latents \
			--set data.images=$(DEMO_OUTPUT)/shards --set run.output=$(TINY)/runs \
			--set network.image_encoder=$(TINY)/models/image_encoder \
			--set run.preview_models=$(TINY)/models || exit 1; \
	done
	$(BIN)/helix4d generate --structure $(TINY)/runs/structure --geometry $(TINY)/runs/geometry \
		--material $(TINY)/runs/material --models $(TINY)/models --output $(TINY)/generated

$(DEMO_OUTPUT)/shards/summary.json:
	$(MAKE) demo

test: lint  ## Lint and run the test suite.
	$(BIN)/python -m pytest

acceptance: $(VENV)/.developing  ## Run the long acceptance tests (hours); their tables go into docs/evidence/.
	$(BIN)/python -m pytest -m acceptance -s --timeout 7200

# A rented machine has torch, often another Python, and no registry: nothing is built if $(PYTHON) imports torch.
gpu:  ## On a machine with a CUDA GPU: everything that it must show, in eight minutes (benchmarks/gpu_kit.md).
	@if $(PYTHON) -c "import torch" 2>/dev/null; then \
		$(PYTHON) benchmarks/gpu_kit.py --out $(GPU_OUTPUT); \
	else \
		$(MAKE) $(VENV)/.developing && $(BIN)/python benchmarks/gpu_kit.py --out $(GPU_OUTPUT); \
	fi

lint: $(VENV)/.developing  ## Check style, types and import rules.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tests.check_types
	cd $(LINKS) && $(CURDIR)/$(BIN)/lint-imports --config $(CURDIR)/pyproject.toml

docs: $(VENV)/.developing  ## The API reference from docstrings, in build/api; fails on a warning.
	$(BIN)/python -m tests.api_reference $(LINKS) build/api

clean:
	rm -rf $(VENV) $(DEMO_OUTPUT) build
