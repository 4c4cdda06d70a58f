# What is done most often; .ci/run is the whole of it in an environment of its own.
PYTHON ?= python

.PHONY: docs
docs:  ## the documentation in build/site
	$(PYTHON) -m mkdocs build --strict
