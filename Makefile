# Two commands for a fresh machine: `make run` and `make test`.
PYTHON ?= python3
SCENARIO ?= examples/stable-diffusion-a100.yaml
BIN := .venv/bin
STAMP := .venv/.installed
RUN_STAMP := .venv/.installed-run
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: run test lint types bench clean accuracy calibration

run: $(RUN_STAMP)
	@$(BIN)/framecast run "$(SCENARIO)"

test: $(STAMP)
	@$(BIN)/python -m pytest -n 2

lint: $(STAMP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP)
	@$(BIN)/mypy

bench: $(STAMP)
	@$(BIN)/python -m benchmarks.run

accuracy: $(STAMP)
	@test -n "$(TABLES)" || { echo "TABLES: the folder of the measurement tables: make accuracy TABLES=measurements"; exit 2; }
	@$(BIN)/python -m calib.accuracy $(TABLES)

# Writes sim/calibrations/a100.yaml and .npz, in one go, from the tables that docs/accuracy.md is made of.
CALIBRATED := gemm attention conv2d conv_kernelbench conv_fp16_a100 norm softmax elementwise collective
calibration: $(STAMP)
	@test -n "$(TABLES)" || { echo "TABLES: the folder of the measurement tables: make calibration TABLES=measurements"; exit 2; }
	@$(BIN)/framecast calib fit $(foreach name,$(CALIBRATED),$(wildcard $(TABLES)/$(name).*)) --hardware a100 --out sim/calibrations/a100

# What `run` needs: no torch. What everything else needs is more, so it makes both stamps.
$(RUN_STAMP): pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing framecast into .venv (once; about a minute) ..."
	@$(INSTALL) .
	@touch $@

$(STAMP): pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing framecast with torch and the tools for tests into .venv (once; a few minutes) ..."
	@$(INSTALL) '.[dev]'
	@touch $(RUN_STAMP) $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "framecast needs Python 3.11 or newer; found $$($(PYTHON) --version). Say which with: make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -m venv .venv

clean:
	rm -rf .venv build *.egg-info
