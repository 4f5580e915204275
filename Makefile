# Without a target: make demo. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Interpreters that `make dist` tries the wheel with; by default the one of the environment.
PYTHONS ?=
# Files with tests marked `backend`, which run once more on JAX.
BACKEND := tests/zoo/models/test_models.py tests/zoo/layers
NUMERICAL := zoo/surgery/test_folding zoo/surgery/test_surgery zoo/layers/test_layers tasks/classification/test_half_batches tasks/engine/test_optimize

# Tests start many processes: each loads compiled modules, whatever the shell's setting.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check slow lint format docs course dist clean help

demo: $(VENV)/.core  ## set up, fine-tune the embedded model offline, print the figures
	$(BIN)/zoo finetune

test: $(VENV)/.test lint  ## set up, run the tests, and those of models and layers once more on JAX
	$(BIN)/python -m pytest -q -n auto --dist loadgroup
	KERAS_BACKEND=jax $(BIN)/python -m pytest -q -n auto --dist loadgroup -m backend $(BACKEND)

check: $(VENV)/.test docs  ## build docs, run longer tests, also on JAX and an older CPU
	$(BIN)/python -m pytest -q -n auto --dist loadgroup --check -m check
	KERAS_BACKEND=jax $(BIN)/python -m pytest -q -n auto --dist loadgroup --check \
	  -m "backend and check" $(BACKEND)
	ONEDNN_MAX_CPU_ISA=SSE41 TF_NUM_INTRAOP_THREADS=1 $(BIN)/python -m pytest -q -n auto --check \
	  $(NUMERICAL:%=tests/%.py) -k "not half_precision"

slow: $(VENV)/.test  ## run every test, for hours
	$(BIN)/python -m pytest -q --slow

lint: $(VENV)/.test  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.test  ## mend style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs  ## build the documentation into site/, warnings are errors
	$(BIN)/python docs/site/build.py site

course: $(VENV)/.test  ## run the studies, write the pictures and figures of docs/course
	$(BIN)/python docs/site/course.py

dist: $(VENV)/bin/python  ## build wheel and sdist, test the wheel in an empty environment
	rm -rf build dist
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build
	$(BIN)/python tests/smoke.py dist $(PYTHONS:%=--python %)

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A stamp is newer than setup.cfg only if everything that it asks for was installed.
$(VENV)/.core: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[all,jax,test]'
	touch $@ $(VENV)/.core

$(VENV)/.docs: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@ $(VENV)/.core

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "keras-zoo needs Python 3.11 to 3.13; try: make PYTHON=python3.12 demo"; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:  ## remove the environment and what was built
	rm -rf $(VENV) build dist site *.egg-info
