# Everything sets itself up from a bare checkout with Python 3.11: `make demo`, `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUTPUT ?= demo_output

.PHONY: demo test acceptance lint clean

# The data half needs no torch, so the demo does not wait for it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,model]"
	touch $@

demo: $(VENV)/.installed  ## Sample assets all the way to shards, at reduced settings that are printed.
	$(BIN)/helix4d samples --output $(DEMO_OUTPUT)/assets
	$(BIN)/helix4d curate --source $(DEMO_OUTPUT)/assets --output $(DEMO_OUTPUT)/shards \
		--resolution 128 --views 4 --image-size 192 --assets-per-shard 4

test: lint  ## The whole suite: unit, property, parity, integration.
	$(BIN)/python -m pytest

acceptance: $(VENV)/.developing  ## The full lists of the issues; its tables go into docs/performance.md.
	$(BIN)/python -m pytest -m acceptance -s --timeout 7200

lint: $(VENV)/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(DEMO_OUTPUT)
