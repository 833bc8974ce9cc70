# Everyday commands; `make check` is what CI runs before the tests.
PYTHON ?= python

.PHONY: check typing test slow wheel

typing:
	mkdir -p .typing/burnish
	for room in data policies rewards learners rollouts platform; do ln -sfn ../../$$room .typing/burnish/$$room; done

check: typing
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m pyright

test:
	$(PYTHON) -m pytest

slow:
	$(PYTHON) -m pytest -m slow

wheel:
	$(PYTHON) -m build --wheel
