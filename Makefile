# Everything this project does from a checkout. `make demo` and `make test` do their own set-up.

PYTHON ?= python3
JOBS ?= 2
EXAMPLES ?= 20000
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Those that need no data and no other program; the others say at their top what they need.
BENCHMARKS := crf.py dicom_reading.py files.py inference.py^--quick losses.py networks.py^--facts startup.py

.DEFAULT_GOAL := help
.PHONY: help install demo test check lint doctest fuzz bench docs clean system dev

help:
	@echo "make install   .venv with medseg and its extras"
	@echo "make demo      train on phantoms, segment unseen DICOM series, write demo/out/report.html"
	@echo "make test      all checks and tests, with what they need"
	@echo "make check     lint, format, types, import contracts, doctests"
	@echo "make fuzz      damaged DICOM files at random, EXAMPLES=20000 of them; the suite looks at a fixed few"
	@echo "make bench     the benchmarks that need no data and no other program"
	@echo "make docs      check every link of the documentation"
	@echo "make clean     remove demo/, dist/ and caches; .venv stays"

# ------------------------------------------------------------------------------------------------------------- set-up

install: $(VENV)/installed.stamp

dev: $(VENV)/dev.stamp

# A machine without the venv module (bare Debian) gets it from the script when root, and is told the package's name otherwise.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not there; medseg needs Python 3.11 or newer (make PYTHON=/path/to/python ...)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit("medseg needs Python 3.11 or newer, and $(PYTHON) is %d.%d (make PYTHON=python3.12 ...)" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || PYTHON=$(PYTHON) scripts/system-packages.sh python
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv), or choose another Python (make PYTHON=...)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# Torch goes first, pinned: some packages would otherwise exchange it.
$(VENV)/installed.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing PyTorch, then medseg, into $(VENV) (once; some minutes)"
	@$(PIP) torch
	@$(PIP) -e '.[gui,rtstruct,stl]'
	@touch $@

# torchvision lies apart: MONAI and others would use it where they found it, and its operators want another build of torch.
$(VENV)/dev.stamp: $(VENV)/installed.stamp
	@echo "Installing the tools of the tests into $(VENV)"
	@$(PIP) -e '.[dev]'
	@$(PIP) --no-deps --upgrade --target $(VENV)/oracles torchvision
	@touch $@

system:
	@PYTHON=$(PYTHON) scripts/system-packages.sh

# ---------------------------------------------------------------------------------------------------------------- use

demo: install
	@$(BIN)/medseg demo

# ------------------------------------------------------------------------------------------------------------- checks

check: lint doctest

lint: dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

doctest: dev
	@OMP_NUM_THREADS=1 $(BIN)/pytest medseg napari_plugin

# The doctests of `check` run here within the suite, once, where they count for coverage.
test: system lint
	@PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 scripts/with-display.sh $(BIN)/pytest --numprocesses=$(JOBS) --dist=loadscope --cov --cov-report=term

fuzz: dev
	@MEDSEG_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/pytest tests/fuzz

bench: dev
	@set -e; for program in $(BENCHMARKS); do words="benchmarks/$$(echo $$program | tr ^ ' ')"; echo "== $$words"; $(BIN)/python $$words; done

docs: dev
	@$(BIN)/python scripts/check_links.py

clean:
	@rm -rf demo dist build htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find medseg napari_plugin tests scripts -type d -name __pycache__ -prune -exec rm -rf {} +
