# The short commands. PYTHON picks the interpreter (3.11 and newer); CONFIG, WORKDIR and ARGS what is trained.
PYTHON ?= python3
CONFIG ?= configs/digits.py
WORKDIR ?= runs/$(basename $(notdir $(CONFIG)))
ARGS ?=
# A module is compiled when it is first imported, as half of them never are, and kept whatever the shell says: the tests
# start a hundred programs, each of which would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
PIP = .venv/bin/pip --disable-pip-version-check install -q --no-compile -c constraints.txt

PYTEST = .venv/bin/python -m pytest --dist loadfile --no-loadscope-reorder -n
# Programs that wait for one another leave a processor free now and then.
ONE_MORE = $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

.PHONY: train test test-all test-full test-wheel lint docs clean

train: .venv/installed
	.venv/bin/python -m experiments.train --config=$(CONFIG) --workdir=$(WORKDIR) $(ARGS)

# What a newcomer waits for; test-all has processes, clusters, hosts, browsers and the wheel too.
test: .venv/installed-dev
	$(PYTEST) logical $(ARGS)

test-all: .venv/installed-dev
	$(PYTEST) $(ONE_MORE) -m 'not slow' $(ARGS)

# What test leaves out of test-all, without the checks of arrays against annotations, which both of those have.
test-full: .venv/installed-dev
	$(PYTEST) $(ONE_MORE) -m 'full and not slow' --jaxtyping-packages= $(ARGS)

test-wheel: .venv/installed-dev
	.venv/bin/python -m pytest -m 'not slow' tests/test_wheel.py $(ARGS)

lint: .venv/installed-dev
	.venv/bin/ruff check -q
	.venv/bin/ruff format -q --check
	.venv/bin/mypy

# The site of docs/: site/index.html opens without a server. The study that it shows is trained once, in half a minute, and its
# pages are made anew each time; make clean forgets it.
docs: runs/live/plan.json
	@.venv/bin/python -m vae_jax compare --runs=runs/live >/dev/null
	@.venv/bin/python -m vae_jax explore --workdir="$$(echo runs/live/beta=1_s0_*)" \
		--other="$$(echo runs/live/beta=0.25_s0_*)" --out=runs/live/comparison/explorer.html
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict

runs/live/plan.json: .venv/installed-dev docs/live/study.py
	@rm -rf runs/live
	@.venv/bin/python -m vae_jax sweep --config=docs/live/study.py --workdir=runs/live
	@touch $@

clean:
	rm -rf .venv build site runs/live *.egg-info .pytest_cache .ruff_cache .mypy_cache

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'vae_jax needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...'; exit 1; }
	@$(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo 'no venv module here; on Debian: apt install python3-venv'; exit 1; }

.venv/installed: .venv/bin/pip pyproject.toml constraints.txt
	@echo 'installing into .venv (a minute or two, the first time) ...'
	@$(PIP) -e '.[compare]'
	@touch $@

# The compiler of TPUs, outside site-packages: there JAX would take this machine for a TPU.
.venv/libtpu: .venv/bin/pip constraints.txt
	@rm -rf $@
	@$(PIP) --no-deps --target $@ libtpu
	@touch $@

.venv/installed-dev: .venv/bin/pip pyproject.toml constraints.txt
	@echo 'installing with the test tools into .venv (a minute or two, the first time) ...'
	@$(PIP) -e '.[dev,docs,tfds,compare,search,slurm]'
	@touch $@ .venv/installed
