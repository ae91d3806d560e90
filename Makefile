# Two commands: `make demo` shows redraft on a real model, `make test` checks it all.
# They need Python 3.11 or newer, make and git; no GPU, no account, no key.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint docs dist bench model clean

# The first Python that is new enough and can make a virtual environment. `make PYTHON=… test` chooses another.
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c '$(USABLE)' >/dev/null 2>&1 && command -v $$p && break; done)

BIN := .venv/bin
EXTRAS := cpu,data,train,serve,cluster,otel,eval,dev
DEMO := .venv-demo
PIP := pip --disable-pip-version-check install --constraint constraints.txt
# By default the check steers the model, and its first draft passes. Without that and without chance, the draft is too
# long and the revision is not, as llama.cpp computes it and, with other words, as OpenVINO does.
DEMO_ASK := redraft ask "Describe a lighthouse." --check 'words<=30'
DEMO_FLAGS := --mode verified --no-steer --no-tell-checks --temperature 0 --steps
DEMO_OWN := redraft ask "What is 73052 - 4618?" --steps

help:
	@echo 'make demo       a real model drafts, is checked, and revises (own environment in $(DEMO))'
	@echo 'make test       lint, types, and all tests but the slow ones'
	@echo 'make test-slow  the long tests: real model, kill, soak, new examples'
	@echo 'make lint       ruff and mypy alone'
	@echo 'make docs       regenerate the generated pages of docs/, and build the site'
	@echo 'make dist       build wheel and sdist twice, compare, install and try them; a list of parts'
	@echo 'make bench      the benchmarks; writes benchmarks/results/ and the tables of RESULTS.md'
	@echo 'make clean      remove environments, caches and builds; the model stays in the cache of its user'

# A folder is made once, and again when what it holds has changed. pip would compile its files on one core.
.venv/.stamp: pyproject.toml constraints.txt
	$(call need_python)
	$(PYTHON) -m venv .venv
	$(call install,.venv,--no-compile --editable '.[$(EXTRAS)]')
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib src || true  # some packages hold templates of files
	@touch $@

$(DEMO)/.stamp: pyproject.toml constraints.txt $(shell find src -type f ! -path '*/__pycache__/*')
	$(call need_python)
	@echo 'Installing redraft in $(DEMO), which is its own …'
	@$(PYTHON) -m venv $(DEMO)
	$(call install,$(DEMO),--no-compile '.[local]')
	@touch $@

# On a terminal, each line of pip stands in place of the one before. All of them are in pip.log.
define install
	@$(1)/bin/$(PIP) $(2) 2>&1 | tee $(1)/pip.log | while IFS= read -r line; do \
	  [ ! -t 1 ] || [[ $$line = *[━╸╺]* ]] || printf '\r\033[K  %.76s' "$$line"; done || { tail -n 20 $(1)/pip.log >&2; exit 1; }
	@[ ! -t 1 ] || printf '\r\033[K'
endef

define need_python
	@test -n '$(PYTHON)' || { \
	  echo 'redraft needs Python 3.11 or newer with venv, and found: '"$$(python3 --version 2>&1)" >&2; \
	  echo '  Install it (Debian, Ubuntu: apt install python3.11-venv), or name one: make PYTHON=/path/to/python3.12 …' >&2; \
	  exit 1; }
endef

# `ask` ends with 1 when a check did not pass in the end. That is an honest result, and no failure of the demo.
demo:
	@$(MAKE) --no-print-directory $(DEMO)/.stamp && \
	$(DEMO)/bin/redraft model get default && \
	echo && printf '$$ %s \\\n    %s\n\n' '$(subst ','\'',$(DEMO_ASK))' '$(DEMO_FLAGS)' && \
	{ $(DEMO)/bin/$(DEMO_ASK) $(DEMO_FLAGS) || test $$? = 1; } && \
	echo && echo 'No check finds a slip in a sum. The default model has learnt to find its own:' && \
	echo && printf '$$ %s\n\n' '$(DEMO_OWN)' && $(DEMO)/bin/$(DEMO_OWN) && \
	printf '\nTo go on, type: PATH=$$PWD/$(DEMO)/bin:$$PATH\n' && \
	printf '\n  %s\n    %s\n' \
	  '$(subst ','\'',$(DEMO_ASK))' 'By default the check steers the model, and the first draft passes.' \
	  '$(subst ','\'',$(DEMO_ASK)) -m ollama:qwen3' 'A model of yours. Others: redraft model list, docs/engines.md.' \
	  "pip install '.[local,serve]' && redraft serve --check 'words<=30'" "The same in a browser, and as an API like OpenAI's." && \
	printf '\n%s\n' 'Now ask a question of your own, and say with --check what its answer must be.'

model: .venv/.stamp
	@$(BIN)/redraft model get default

lint: .venv/.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Each process of pytest computes on one thread. Many tests wait for other processes, so there is one more than cores.
# The slow ones compute, and each file of them has one process, since it may have a server or a model for all its tests.
CORES := $(shell getconf _NPROCESSORS_ONLN)
WORKERS := $(shell echo $$(( $(CORES) + 1 )))
SLOWLY := --numprocesses $(CORES) --dist loadfile

# Types take one core for two minutes, so they are checked beside the tests.
test: model
	@$(MAKE) --no-print-directory -j2 lint tests

.PHONY: tests
tests: model
	REDRAFT_REQUIRE_MODEL=1 OMP_NUM_THREADS=1 $(BIN)/pytest -q -m 'not slow' --durations 10 --numprocesses $(WORKERS) --dist worksteal

test-slow: model .venv/.docs
	@export REDRAFT_REQUIRE_MODEL=1 OMP_NUM_THREADS=1; status=0; \
	$(BIN)/pytest -q -m slow $(SLOWLY) || status=$$?; \
	$(BIN)/pytest -q -m 'hypothesis and not slow' --hypothesis-profile searching $(SLOWLY) || status=$$?; exit $$status

# A warning, such as of a link that leads nowhere, is an error.
docs: .venv/.docs
	$(BIN)/python scripts/cli_reference.py
	$(BIN)/python scripts/api_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'To read it: $(BIN)/python -m http.server --directory build/site'

# What builds the site is not among what `make test` waits for.
.venv/.docs: .venv/.stamp
	$(call install,.venv,--editable '.[docs]')
	@touch $@

# The tools have an environment of their own, in a temporary folder.
dist:
	$(call need_python)
	$(PYTHON) scripts/dist.py

# The peers that the benchmarks run beside redraft come on top; they are large. Something that is not reached in
# one script does not keep the next one from being run.
bench: model
	$(BIN)/$(PIP) --quiet datasets datasketch instructor langchain-openai math-verify mellea playwright rensa trustcall
	@status=0; for script in steer derive grounded answers patch agents self revise cpu apps apps_hf serve \
	  cluster_serve generate cluster data train ppo weights evaluate; do \
	  $(BIN)/python benchmarks/$$script.py || status=$$?; done; exit $$status

clean:
	rm -rf .venv $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
