# make quickstart | test | lint | bench | clean
# PYTHON: the interpreter that makes the environment.  VENV: where it lies.  RUN: the run folder of the quickstart.
PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/quickstart

CONFIG := configs/shapes/quickstart.yaml
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: quickstart test lint bench clean

quickstart: $(READY)
	$(BIN)/python demo/quickstart.py $(CONFIG) output=$(RUN)

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

bench: $(READY)
	@for script in $(sort $(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .pytest_cache .ruff_cache .mypy_cache build dist *.egg-info
	find $(wildcard xdecoder datasets trainer demo benchmarks tests) -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first and unpinned, so that pip picks the build for this machine before anything else asks for it.
$(READY): pyproject.toml requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch torchvision
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@
