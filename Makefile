# make demo | test | test-slow | lint | docs | accel | test-oldest | audit | clean; needs Python 3.10 or later and nothing else.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
WHEEL_CACHE ?= $(HOME)/.cache/pyg_mmrec/wheels
KEY = import sys, importlib.metadata as m; print(sys.implementation.cache_tag + "-torch" + m.version("torch"))
WHEELS = $(WHEEL_CACHE)/$(shell $(PY) -c '$(KEY)')
DEMO_ARGS ?=
PYTEST_ARGS ?=
# As many processes as there are cores share the tests, eight at most.
CORES = $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
PYTEST = -m pytest --dist worksteal --maxprocesses 8 -n $(CORES) $(PYTEST_ARGS)
OLDEST := .venv-oldest
OLDEST_PYTHON ?= python3.10
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test test-slow lint docs accel test-oldest audit clean

demo: $(VENV)/.core
	$(PY) examples/demo.py $(DEMO_ARGS)

test: $(VENV)/.test
	$(PY) $(PYTEST)

# What trains for long, or on several processes, or is killed and goes on.
test-slow: $(VENV)/.test
	$(PY) $(PYTEST) -m slow

lint: $(VENV)/.test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: $(VENV)/.docs
	$(PY) -m sphinx -W --keep-going -b html docs docs/_build/html

# torch-scatter and torch-sparse have no wheels for most versions of torch: built once, against the installed torch, and
# kept by Python tag and torch version. pip's own cache knows neither, so it is left out. Both are built at the same time,
# because torch-scatter compiles its files one by one.
accel: $(VENV)/.core
	$(PIP) install -c constraints.txt setuptools wheel ninja
	$(MAKE) -j2 wheel-torch-scatter wheel-torch-sparse
	$(PIP) install --no-index --no-deps --find-links "$(WHEELS)" torch-scatter torch-sparse

wheel-%: export MAX_JOBS ?= $(CORES)
wheel-%:
	mkdir -p "$(WHEELS)"
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PIP) wheel --no-cache-dir --no-build-isolation --no-deps \
		--find-links "$(WHEELS)" --wheel-dir "$(WHEELS)" -c constraints.txt $*

# The oldest versions that are supported, in an environment of their own (7 GB where torch comes with CUDA libraries).
# Without the extra 'features': its libraries need newer versions of what all share, such as safetensors.
test-oldest: $(OLDEST)/.test
	$(OLDEST)/bin/python $(PYTEST)

# Asks the Python Packaging Advisory Database about every pin, so it needs the internet.
audit:
	$(PYTHON) -m venv --clear .venv-audit
	.venv-audit/bin/python -m pip --disable-pip-version-check install pip-audit
	.venv-audit/bin/pip-audit --no-deps --disable-pip -r constraints.txt

clean:
	rm -rf $(VENV) $(OLDEST) .venv-audit build docs/_build docs/api/generated .mypy_cache .ruff_cache .pytest_cache .hypothesis

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

$(OLDEST)/.test: setup.cfg pyproject.toml constraints-oldest.txt
	$(OLDEST_PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip --disable-pip-version-check install -c constraints-oldest.txt torch
	$(OLDEST)/bin/python -m pip --disable-pip-version-check install -c constraints-oldest.txt \
		-e . pytest pytest-timeout pytest-xdist hypothesis ir-measures tensorboard matplotlib \
		fastapi uvicorn httpx jinja2 optuna pillow pyarrow
	touch $@
