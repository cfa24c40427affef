# Two commands from a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
DATASET ?= synthetic
DATA_DIR ?=
BACKENDS ?= jax torch
# What runs on every backend; tests that need TensorFlow say so and are skipped.
CORE ?= tests/layers tests/models tests/pruning tests/test_*.py
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-quick test-slow test-all test-backends lint format docs clean

demo: $(VENV)/.installed
	$(BIN)/keras-pep train --dataset $(DATASET) $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")

# The type checker has one processor, while tests begin.
test: $(VENV)/.installed-dev
	$(MAKE) --no-print-directory --jobs 2 lint test-quick

test-quick: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

test-all: test test-slow

test-backends: $(VENV)/.installed-dev
	for backend in $(BACKENDS); do \
	    if $(BIN)/python -c "import $$backend" 2> /dev/null; then \
	        KERAS_BACKEND=$$backend $(BIN)/python -m pytest $(CORE) || exit 1; \
	    else \
	        echo "$$backend is not installed: nothing is tested on it"; \
	    fi; \
	done

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Warnings are errors: mkdocs.yml is strict.
docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --site-dir site

clean:
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[train]'
	touch $@

# At once: what `train` needs is among it.
$(VENV)/.installed-dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[dev]'
	touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) --editable '.[docs]'
	touch $@
