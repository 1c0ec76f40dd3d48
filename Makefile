# make demo | test | lint | docs | accel | clean; needs Python 3.10 or later and nothing else.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
WHEELS ?= $(HOME)/.cache/pyg_mmrec/wheels
DEMO_ARGS ?=
PYTEST_ARGS ?=
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test lint docs accel clean

demo: $(VENV)/.core
	$(PY) examples/demo.py $(DEMO_ARGS)

test: $(VENV)/.test
	$(PY) -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: $(VENV)/.docs
	$(PY) -m sphinx -W --keep-going -b html docs docs/_build/html

# torch-scatter and torch-sparse have no wheels for most versions of torch: built once, against the installed torch, and
# kept by Python tag and torch version. pip's own cache knows neither, so it is left out.
accel: export MAX_JOBS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
accel: $(VENV)/.core
	$(PIP) install -c constraints.txt setuptools wheel ninja
	key=$$($(PY) -c 'import sys, torch; print(f"{sys.implementation.cache_tag}-torch{torch.__version__}")') && \
	folder="$(WHEELS)/$$key" && mkdir -p "$$folder" && \
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PIP) wheel --no-cache-dir --no-build-isolation --no-deps \
		--find-links "$$folder" --wheel-dir "$$folder" -c constraints.txt torch-scatter torch-sparse && \
	$(PIP) install --no-index --no-deps --find-links "$$folder" torch-scatter torch-sparse

clean:
	rm -rf $(VENV) build docs/_build docs/api/generated .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A stale environment is made anew. torch goes first and by its pin, so that nothing after it chooses another build.
$(VENV)/.core: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed; name one with PYTHON=")'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e .
	touch $@

$(VENV)/.test $(VENV)/.docs: $(VENV)/.%: $(VENV)/.core
	$(PIP) install -c constraints.txt -e ".[$*]"
	touch $@
