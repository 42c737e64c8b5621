# The set-up happens once: .venv is made again only when the declared dependencies change.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.installed
# Tests side by side; the tests of one file stay together, for what they share.
JOBS ?= 2

.PHONY: demo test lint bench
demo: $(READY)
	$(VENV)/bin/ctclip demo --output demo --overwrite

test: $(READY)
	$(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile

lint: $(READY)
	$(VENV)/bin/ruff check benchmarks ctclip tests
	$(VENV)/bin/mypy

bench: $(READY)
	$(VENV)/bin/python -m benchmarks --output bench

$(READY): setup.cfg pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable ".[dev]"
	touch $(READY)
