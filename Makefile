# make quickstart | test | quick | fuzz | lint | bench | clean
# PYTHON: the interpreter that makes the environment.  VENV: where it lies.  RUN: the run folder of the quickstart.
# JOBS: how many processes run tests.  INDEX: pip options with which torch is installed; the default is this machine's build.
PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/quickstart
JOBS ?= auto
INDEX ?=

CONFIG := configs/shapes/quickstart.yaml
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One thread a process: as many processes as cores keep all of them busy, and sums keep their order.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

.PHONY: quickstart test quick fuzz lint bench clean

quickstart: $(READY)
	$(BIN)/python demo/quickstart.py $(CONFIG) output=$(RUN)

test: $(READY)
	$(PYTEST)

# A first answer within a minute: all but what is marked slow.
quick: $(READY)
	$(PYTEST) -m "not slow"

# Two thousand files of every kind that is read, wrong somewhere: each is read or refused in one sentence.
fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

bench: $(READY)
	@for script in $(sort $(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .pytest_cache .ruff_cache .mypy_cache build dist site *.egg-info
	find $(wildcard xdecoder datasets trainer demo benchmarks tests) -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first, by itself, so that INDEX can say where from: on Linux the registry's own build brings CUDA along.
$(READY): pyproject.toml requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(INDEX) torch torchvision
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@
