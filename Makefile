.PHONY: train test test-all test-oldest test-newest lint format docs lock

train:
	bin/in_env python bin/train.py --dataset=mnist --pnil

test:
	bin/in_env python -m pytest -n 2

test-all:
	bin/in_env python -m pytest -n 2 -m ""

# The oldest and the newest versions that setup.py allows, each in a fresh environment: the fast
# tests and the main job. Left out is what holds the lock against the versions installed.
PYTHON ?= 3.11
RESOLUTION_oldest = lowest-direct
RESOLUTION_newest = highest
test-oldest test-newest: test-%:
	bin/in_env uv venv --quiet --clear --python $(PYTHON) build/$*
	bin/in_env uv pip install --quiet --python build/$*/bin/python \
	  --resolution $(RESOLUTION_$*) --editable '.[dev]'
	build/$*/bin/python -m pytest -n 2 --ignore=tests/test_packaging.py
	build/$*/bin/python bin/train.py --dataset=mnist --pnil --runs_dir=build/$*/runs --overwrite

lint:
	bin/in_env ruff check .
	bin/in_env ruff format --check .
	bin/in_env mypy pnil_tf bin

format:
	bin/in_env ruff check --fix .
	bin/in_env ruff format .

# Written into site/; every warning is an error, dead links among them.
docs:
	NO_MKDOCS_2_WARNING=1 bin/in_env mkdocs build --strict

# Keeps the versions already locked where they still fit; LOCK_FLAGS=--upgrade takes the newest.
lock:
	UV_CUSTOM_COMPILE_COMMAND="make lock" bin/in_env uv pip compile setup.py \
	  --extra dev --extra docs --extra offline --universal --python-version 3.10 --generate-hashes \
	  --quiet $(LOCK_FLAGS) --output-file requirements.lock
