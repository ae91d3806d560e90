# Two commands: `make demo` shows redraft on a real model, `make test` checks it all.
# They need Python 3.11 or newer, make and git; no GPU, no account, no key.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint docs bench model clean

# The first Python that is new enough and can make a virtual environment. `make PYTHON=… test` chooses another.
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c '$(USABLE)' >/dev/null 2>&1 && command -v $$p && break; done)

BIN := .venv/bin
DEMO := .venv-demo
PIP := pip --disable-pip-version-check install --quiet --constraint constraints.txt
# How much of the disk a demo may take beside the model, in MB, and how long it may last, in seconds.
DEMO_MB := 250
DEMO_SECONDS := 60
# The small model rambles: this bounds how long it may, on a slow machine too.
DEMO_ASK := redraft ask "Describe a lighthouse." --check 'words<=30' --check 'lacks:light' --max-tokens 80 --max-revisions 2

help:
	@echo 'make demo       a real model drafts, is checked, and revises (own environment in $(DEMO))'
	@echo 'make test       lint, types, and all tests but the slow ones'
	@echo 'make test-slow  the long tests: real model, kill, soak, new examples'
	@echo 'make lint       ruff and mypy alone'
	@echo 'make docs       regenerate the generated pages of docs/'
	@echo 'make bench      the benchmarks; writes benchmarks/RESULTS.md'
	@echo 'make clean      remove environments, caches and builds; the model stays in the cache of its user'

# A folder is made once, and again when what it holds has changed. pip would compile its files on one core.
.venv/.stamp: pyproject.toml constraints.txt
	$(call need_python)
	$(PYTHON) -m venv .venv
	$(BIN)/$(PIP) --no-compile --editable '.[cpu,data,train,dpo,serve,otel,eval,dev]'
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib src || true  # some packages hold templates of files
	@touch $@

$(DEMO)/.stamp: pyproject.toml constraints.txt $(shell find src -type f ! -path '*/__pycache__/*')
	$(call need_python)
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/$(PIP) '.[local]'
	@touch $@

define need_python
	@test -n '$(PYTHON)' || { \
	  echo 'redraft needs Python 3.11 or newer with venv, and found: '"$$(python3 --version 2>&1)" >&2; \
	  echo '  Install it (Debian, Ubuntu: apt install python3.11-venv), or name one: make PYTHON=/path/to/python3.12 …' >&2; \
	  exit 1; }
endef

# `ask` ends with 1 when a check did not pass in the end. That is an honest result, and no failure of the demo.
demo:
	@start=$$(date +%s) && \
	$(MAKE) --no-print-directory $(DEMO)/.stamp && \
	$(DEMO)/bin/redraft model get default && \
	echo && printf '$$ %s\n' '$(subst ','\'',$(DEMO_ASK))' && \
	{ $(DEMO)/bin/$(DEMO_ASK) || test $$? = 1; } && \
	echo && echo "$$(( $$(date +%s) - start )) s in all (at most $(DEMO_SECONDS) with a warm package cache)," \
	  "$$(du -sm $(DEMO) | cut -f1) MB installed beside the model (at most $(DEMO_MB))." && \
	echo "To watch it in a browser: $(DEMO)/bin/pip install '.[local,serve]' && $(DEMO)/bin/redraft serve --model default" && \
	echo "  and open http://127.0.0.1:8321/"

model: .venv/.stamp
	@$(BIN)/redraft model get default

lint: .venv/.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Each process of pytest computes on one thread. Many tests wait for other processes, so there is one more than cores.
WORKERS := $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )))

test: lint model
	REDRAFT_REQUIRE_MODEL=1 OMP_NUM_THREADS=1 $(BIN)/pytest -q -m 'not slow' --numprocesses $(WORKERS) --dist worksteal

test-slow: model
	REDRAFT_REQUIRE_MODEL=1 $(BIN)/pytest -q -m slow
	$(BIN)/pytest -q -m 'hypothesis and not slow' --hypothesis-profile searching

docs: .venv/.stamp
	$(BIN)/python scripts/keywords.py
	$(BIN)/python scripts/cli_reference.py

# The peers that the benchmarks run beside redraft come on top; they are large. Something that is not reached in
# one script does not keep the next one from being run.
bench: model
	$(BIN)/$(PIP) datasketch instructor mellea playwright
	@status=0; for script in revise echo weights data train ppo apps apps_hf generate evaluate serve; do \
	  $(BIN)/python benchmarks/$$script.py || status=$$?; done; exit $$status

clean:
	rm -rf .venv $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
