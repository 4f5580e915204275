# make demo   sets up, fine-tunes the embedded default offline, shows the figures
# make test   sets up, runs the tests, and the model contracts once more on JAX
# make check  sets up, runs the longer tests, and those of numbers as an older processor computes
# make lint   checks style and format
# make slow   runs every test, for hours

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NUMERICAL := surgery layers halves optimize

.PHONY: demo test check slow lint format clean

demo: $(VENV)/.core
	$(BIN)/zoo finetune

test: $(VENV)/.test lint
	$(BIN)/python -m pytest -q -n auto --dist loadgroup
	KERAS_BACKEND=jax $(BIN)/python -m pytest -q -n auto tests/zoo/models/test_models.py tests/zoo/layers/test_layers.py

check: $(VENV)/.test
	$(BIN)/python -m pytest -q -n auto --dist loadgroup --check -m check
	ONEDNN_MAX_CPU_ISA=SSE41 TF_NUM_INTRAOP_THREADS=1 $(BIN)/python -m pytest -q -n auto \
	  $(NUMERICAL:%=tests/test_%.py)

slow: $(VENV)/.test
	$(BIN)/python -m pytest -q --slow

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A stamp is newer than setup.cfg only if everything that it asks for was installed.
$(VENV)/.core: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[all,jax,test]'
	touch $@ $(VENV)/.core

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "keras-zoo needs Python 3.11 to 3.13; try: make PYTHON=python3.12 demo"; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info
