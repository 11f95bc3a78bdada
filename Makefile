# Two commands for a fresh machine: `make run` and `make test`.
PYTHON ?= python3
SCENARIO ?= examples/stable-diffusion-a100.yaml
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: run test lint types bench clean accuracy

run: $(STAMP)
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

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "framecast needs Python 3.11 or newer; found $$($(PYTHON) --version). Say which with: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "Installing framecast into .venv (once; a few minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build *.egg-info
