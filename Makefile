# What is done most often; .ci/run does all of it in a virtual environment of its own.
PYTHON ?= python
BENCH ?= generate load

.PHONY: help test quick coverage check format docs bench
help:  ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

test:  ## the whole test suite
	$(PYTHON) -m pytest -n 2 --dist loadfile

quick:  ## the tests that take seconds
	$(PYTHON) -m pytest -m "not slow"

coverage:  ## the share of lines that the quick tests run
	$(PYTHON) -m coverage run -m pytest -m "not slow"
	$(PYTHON) -m coverage combine -q
	$(PYTHON) -m coverage report

check:  ## lint, format, words and types
	$(PYTHON) -m ruff check src tests bench docs examples .ci
	$(PYTHON) -m ruff format --check src tests bench docs examples .ci
	$(PYTHON) .ci/words.py
	$(PYTHON) -m mypy

format:  ## write files in the format that check asks for
	$(PYTHON) -m ruff check --fix src tests bench docs examples .ci
	$(PYTHON) -m ruff format src tests bench docs examples .ci

docs:  ## the documentation in build/site
	$(PYTHON) -m mkdocs build --strict

bench:  ## some benchmarks: make bench BENCH="decode train"; what each needs stands at its top
	for name in $(BENCH); do $(PYTHON) bench/$$name.py || exit 1; done
