# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help setup demo test thorough slow check format clean

help:
	@echo "make demo    the whole path: train, export, start robot and bridge, obey instructions"
	@echo "make test    the tests"
	@echo "make thorough   more cases of the same, whole commands, CUDA kernels in Triton's interpreter"
	@echo "make check   ruff, mypy and the tests that need no processes, quickly"
	@echo "make slow    learning and endurance tests"
	@echo "make setup   only the virtual environment in $(VENV)"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt .ci/setup
	@PYTHON=$(PYTHON) VENV=$(VENV) bash .ci/setup

demo: $(INSTALLED)
	$(BIN)/mcsd-agent demo

# Files beside each other on all cores; those that time real processes are alone.
test: $(INSTALLED)
	$(BIN)/python -m pytest -q -n auto --dist loadfile --ignore tests/ros
	$(BIN)/python -m pytest -q tests/ros

thorough: $(INSTALLED)
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "thorough and not slow" --ignore tests/ros
	$(BIN)/python -m pytest -q -m "thorough and not slow" tests/ros

slow: $(INSTALLED)
	$(BIN)/python -m pytest -q -m slow

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q --ignore tests/ros --ignore tests/training

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
