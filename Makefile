# Two commands are all a newcomer needs: `make reproduce` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help install reproduce reproduce-all report smoke test test-slow test-slurm gpu-check lint lock clean

help:
	@echo "make reproduce       the core study: data, training, samples, metrics, tables, figures, report"
	@echo "make reproduce-all   the core study and all further studies: depth, priors, chains, posterior, detection …"
	@echo "make install     only the environment, in .venv; with CPU_INDEX=URL without the CUDA libraries (README)"
	@echo "make test        the tests           make test-slow   kills, clones and experiments through the real tools"
	@echo "make test-slurm  the pipeline on a real Slurm, where one is installed (docs/cluster.md)"
	@echo "make gpu-check   on a GPU: tests that need one, rates, agreement with the CPU, costs and memory"
	@echo "make smoke STUDY=cifar10   an image study from synthetic archives to tables, in about a minute (docs/image-studies.md)"
	@echo "make lint        ruff, snakefmt, snakemake --lint"
	@echo "make lock        resolve requirements.lock anew from pyproject.toml"
	@echo "make clean       delete results of runs, not data, not the environment"

install: $(VENV)/.installed

# `make install CPU_INDEX=URL` leaves out the CUDA libraries; URL is PyTorch's index of wheels without them (Linux). Only
# the first installation looks at it: delete .venv to change it.
CPU_INDEX ?=
CUDA := ^(nvidia|cuda|triton)

# A small version of an image study, with synthetic archives, in a copy of the project: make smoke STUDY=svhn
STUDY ?= cifar10
smoke: $(VENV)/.installed
	rm -rf smoke/$(STUDY)
	PYTHONPATH=tests/support python workflow/smoke.py smoke/$(STUDY) $(STUDY)
	cd smoke/$(STUDY) && PYTHONPATH=$$PWD snakemake --cores 2 $(STUDY)
	@cat smoke/$(STUDY)/results/$(STUDY)/tables/main.md; echo "Tables and figures: smoke/$(STUDY)/results/$(STUDY)"

# The environment has the exact versions of the lock file. It is made again when the lock file changes.
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "jebm needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 …"; exit 1; }
	@echo "Installing into $(VENV) ($(if $(CPU_INDEX),about 2 GB,about 5 GB), 3 to 10 minutes) …"
	$(PYTHON) -m venv $(VENV)
	$(if $(CPU_INDEX),grep -vE '$(CUDA)' requirements.lock > $(VENV)/cpu.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check $(if $(CPU_INDEX),--extra-index-url $(CPU_INDEX) --requirement $(VENV)/cpu.txt,--requirement requirements.lock)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

reproduce: $(VENV)/.installed
	snakemake --cores all core
	@$(MAKE) --no-print-directory report TARGET=core
	@jebm show digits
	@jebm compare-recorded digits
	@echo "This was the core. \`make reproduce-all\` adds the further studies behind docs/findings.md."

reproduce-all: $(VENV)/.installed
	snakemake --cores all
	@$(MAKE) --no-print-directory report
	@jebm compare-recorded

# Snakemake builds its HTML report from finished results. It is built again only if a result or the target changed.
TARGET ?= all
report: $(VENV)/.installed
	@mkdir -p logs; if [ -e results/report.html ] && [ "$$(cat logs/report.target 2>/dev/null)" = "$(TARGET)" ] && \
	  [ -z "$$(find results -mindepth 2 -newer results/report.html -type f)" ]; then :; else \
	  echo "Writing results/report.html …"; \
	  snakemake $(TARGET) --report results/report.html --quiet > logs/report.log 2>&1 || { cat logs/report.log; exit 1; }; \
	  echo $(TARGET) > logs/report.target; fi

test: $(VENV)/.installed
	pytest -m "not slow"

# Tests with kills, full disks, clones with every DVC link type, and edits during runs; they take minutes.
test-slow: $(VENV)/.installed
	pytest -m "slow and not slurm"

# On a Slurm of one node that the tests start in a scratch folder; they say what to install where there is none.
test-slurm: $(VENV)/.installed
	pytest -n 0 -m slurm

# On a machine with a GPU, in about 15 minutes; writes results/gpu/DEVICE.md.
gpu-check: $(VENV)/.installed
	JEBM_CHECK_DEVICE=cuda pytest -n 0 tests/data/test_batches.py tests/workflow/test_gpu_resume.py
	jebm gpu-check

lint: $(VENV)/.installed
	ruff check . && ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint

lock:
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --extra dev --extra slurm --no-header --no-annotate \
	  --no-emit-index-url --output-file requirements.lock pyproject.toml

clean:
	rm -rf runs logs .snakemake .jebm smoke results/report.html
