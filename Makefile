# Two commands: `make reproduce` and `make test`. Everything else is in `make help`.

EXPERIMENT ?= embedded
# What report and figures show, unless an experiment is named.
SHOWN := $(if $(filter file,$(origin EXPERIMENT)),full,$(EXPERIMENT))
PYTHON ?= $(shell command -v python3.11 || command -v python3)
SWEEP ?=
SWEEP_ARGS ?=
TORCH_INDEX ?=
PIP_ARGS ?=

VENV := .venv
# The folder's name may have spaces: only shells, which quote it, read it. The user's own path stays.
FINDS_LIB := PYTHONPATH="$$PWD$${PYTHONPATH:+:$$PYTHONPATH}"
RUN := $(FINDS_LIB) $(VENV)/bin/python -m
PIP := $(VENV)/bin/python -m pip
# Named by the content it was made from: the times of a fresh clone's files say nothing.
STAMP := $(VENV)/.installed-$(shell cksum < requirements.txt | cut -d' ' -f1)
DASK_STAMP := $(VENV)/.dask-$(shell cat requirements.txt requirements-dask.txt | cksum | cut -d' ' -f1)
STANDARD := .venv-standard
STANDARD_STAMP := $(STANDARD)/.installed-$(shell cksum < requirements-standard.txt | cut -d' ' -f1)
BENCH_STAMP := $(VENV)/.bench-$(shell cat requirements.txt requirements-bench.txt | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help reproduce sweep report docs figures bench standard test test-slow test-all lab lint format install clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14
	@echo
	@echo 'make reproduce EXPERIMENT=smoke|embedded|full|compress, or another of notebooks/experiments/'
	@echo '                 (default: embedded)'
	@echo 'PYTHON=...       the Python 3.11 that .venv is made with'
	@echo 'TORCH_INDEX=...  where torch comes from; its small CPU build (Linux: 200 MB, not'
	@echo '                 gigabytes) is at https://download.pytorch.org/whl/cpu'
	@echo 'PIP_ARGS=...     passed to every pip install'

reproduce: $(STAMP) ## the figures, tables and claims; skips what is up to date
	@$(RUN) lib.study reproduce $(EXPERIMENT)

sweep: $(STAMP) ## a notebook at many parameters: make sweep SWEEP=notebooks/sweeps/example.yaml
	@$(RUN) lib.study sweep $(if $(SWEEP),'$(SWEEP)',$(error say which: make sweep SWEEP=<file>)) $(SWEEP_ARGS)

report: $(STAMP) ## one HTML page: make report EXPERIMENT=full
	@$(RUN) lib.study report $(SHOWN)

docs: $(STAMP) ## the documentation as pages, with all executed notebooks, in docs/_build/
	@$(RUN) sphinx -W --keep-going -q docs docs/_build
	@echo docs/_build/index.html

figures: $(STAMP) ## for a paper: make figures STYLE=icml|neurips|ieee|acm COLUMNS=1|2
	@$(RUN) lib.study figures $(if $(filter file,$(origin EXPERIMENT)),full compress bench,$(EXPERIMENT)) \
	  --style $(or $(STYLE),icml) --columns $(if $(findstring command,$(origin COLUMNS)),$(COLUMNS),1)

bench: $(BENCH_STAMP) ## the clustering against other packages, in results/bench/
	@$(RUN) lib.study reproduce bench
	@$(FINDS_LIB) $(VENV)/bin/python -c 'from lib.study.publish.blocks import BLOCKS; print(BLOCKS["bench"]())'

standard: $(STAMP) $(STANDARD_STAMP) ## the standard for neural network coding, in results/standard/
	@$(RUN) lib.study reproduce standard

test: lint $(DASK_STAMP) ## style, types, and a small test of everything
	$(RUN) pytest -n 2 --dist worksteal -m 'not slow'

test-slow: $(DASK_STAMP) ## what takes long: the smoke experiment, a fresh installation, 10^8 weights
	$(RUN) pytest -n 2 --dist worksteal -m slow

test-all: test test-slow ## both

lab: $(STAMP) ## JupyterLab on notebooks/explore.ipynb, and all the others
	$(RUN) jupyter lab --notebook-dir="$$PWD" --LabApp.default_url=/lab/tree/notebooks/explore.ipynb

lint: $(STAMP) ## ruff, types, and imports point downward only
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(FINDS_LIB) $(VENV)/bin/lint-imports
	$(VENV)/bin/mypy --cache-dir .cache/mypy

format: $(STAMP) ## rewrite sources as ruff would have them
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

install: $(STAMP) ## .venv with the pinned packages; the other targets call it

clean: ## remove what was made, but .venv and the committed results
	rm -rf docs/_build docs/executed docs/jupyter_execute .cache .hypothesis .import_linter_cache .pytest_cache .ruff_cache *.egg-info build
	git clean -fdqX results
	find lib data notebooks tests -name __pycache__ -exec rm -rf {} +

$(STAMP):
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo 'Python 3.11 is needed; say where it is: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11' >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
ifneq ($(TORCH_INDEX),)
	grep -E '^torch(vision)?==' requirements.txt > $(VENV)/torch.txt
	$(PIP) install --no-deps --index-url $(TORCH_INDEX) $(PIP_ARGS) -r $(VENV)/torch.txt
endif
	$(PIP) install $(PIP_ARGS) -r requirements.txt
	@# `lib` is found from everywhere, by kernels too; the project itself is not installed here.
	printf '%s\n' "$$PWD" > "$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/root.pth"
	rm -f $(VENV)/.installed-*
	touch $@

$(BENCH_STAMP): $(STAMP)
	$(PIP) install $(PIP_ARGS) -c requirements.txt -r requirements-bench.txt
	rm -f $(VENV)/.bench-*
	touch $@

$(DASK_STAMP): $(STAMP)
	$(PIP) install $(PIP_ARGS) -c requirements.txt -r requirements-dask.txt
	rm -f $(VENV)/.dask-*
	touch $@

$(STANDARD_STAMP):
	"$(PYTHON)" -m venv $(STANDARD)
	$(STANDARD)/bin/python -m pip install $(PIP_ARGS) --no-deps -r requirements-standard.txt
	rm -f $(STANDARD)/.installed-*
	touch $@
