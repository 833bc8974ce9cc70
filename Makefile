# Everyday commands. `make check` is what continuous integration runs before the tests.
# With uv: make check PYTHON="uv run --extra test python"
PYTHON ?= python
ROOMS = data policies rewards learners rollouts serve platform

.PHONY: check typing test slow wheel generated

check: typing
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m pyright --pythonpath "$$($(PYTHON) -c 'import sys; print(sys.executable)')"

# pyright cannot see burnish.* through the editable install; this tree of links shows it the folders under that name.
typing:
	mkdir -p .typing/burnish
	for room in $(ROOMS); do ln -sfn "../../$$room" ".typing/burnish/$$room"; done

test:
	$(PYTHON) -m pytest

slow:
	$(PYTHON) -m pytest -m slow

wheel:
	$(PYTHON) -m build --wheel

# Texts made from the code; tests/repo/test_generated.py holds them current.
generated:
	$(PYTHON) -m burnish.platform.reference recipe > docs/recipe-reference.md
	$(PYTHON) -m burnish.platform.reference commands > tests/repo/cli.txt
