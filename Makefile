# `make help` says what there is. The environment is built on first use and again only when its inputs change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2
PARALLEL := -n $(WORKERS) --dist loadfile
ROUND := test_the_relay_holds_no_byte_of_any_picture_latent_caption_or_file_name

.DEFAULT_GOAL := help
.PHONY: help demo lab test test-all test-unit test-smoke test-process test-notebooks test-browser wheel-test lint notebooks bench clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24
	@echo "  WORKERS=4 runs the tests in four processes"
	@echo "  PYTHON=python3.12 chooses the interpreter (3.11 or later)"

# torch goes first: once the pinned build is there, nothing that follows asks for a larger one.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version.split()[0] + ": try make PYTHON=python3.12")'
	@echo "Building the environment in $(VENV) (once, some minutes)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e . --group test --group lint
	@touch $@

demo: $(READY) ## relay, host and three artists in separate kernels; writes out/demo.html
	$(BIN)/fedart demo

lab: $(READY) ## the notebooks in JupyterLab, with a relay beside them
	$(BIN)/fedart lab

lint: $(READY) ## ruff, mypy and the levels
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: lint test-unit test-smoke ## lint, unit tests, one real round between processes, one page in a browser

test-all: SLOW = 1
test-all: lint test-unit test-process test-notebooks test-browser ## lint, then every test, the slow ones too

test-unit: $(READY) ## all that needs no process and no browser (SLOW=1: the slow ones too)
	$(BIN)/python -m pytest $(PARALLEL) $(if $(SLOW),,-m "not slow") tests/unit $(wildcard tests/test_*.py)

test-smoke: $(READY) ## a round of real processes, and JupyterLab in a real Chromium
	$(BIN)/python -m pytest tests/process/test_workshop.py::$(ROUND) tests/browser/test_lab_opens.py

test-process: $(READY) ## relays, hosts and artists as processes that are killed, starved and attacked
	$(BIN)/python -m pytest $(PARALLEL) tests/process tests/relay

test-notebooks: $(READY) ## every notebook from top to bottom
	$(BIN)/python -m pytest $(PARALLEL) tests/notebooks

test-browser: $(READY) ## every panel in JupyterLab, in Chromium (FEDART_NO_BROWSER=1 leaves them)
	$(BIN)/python -m pytest tests/browser

wheel-test: $(READY) ## build the wheel, install it elsewhere, run fedart check and demo, open fedart lab
	$(BIN)/python tests/wheel.py

notebooks: $(READY) ## bring each .py and .ipynb of a pair up to date, without outputs
	$(BIN)/jupytext --sync notebooks/*.py
	$(BIN)/nbstripout notebooks/*.ipynb

bench: $(READY) ## every benchmark, in its quick form
	@for script in benchmarks/[a-z]*.py; do echo "# $$script"; $(BIN)/python "$$script" --quick --json || exit 1; done

clean: ## remove caches, builds, screenshots and the demo's output; .venv and trained weights stay
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache out/screens out/demo*
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
