# The README's two commands are `make demo` and `make test`; both need Python >= 3.11, make and git, nothing else.
PYTHON ?= python3
VENV   ?= .venv
RUN    := $(VENV)/bin/python
REPO   ?= .
# The chaos: how long at least, and, if not all and anew, which faults and which plan.
MINUTES  ?= 5
FAULTS   ?=
SEED     ?=
PROTOCOL ?=
ORDER    ?=
# The figures: which parts, if not all.
PART ?=

.PHONY: demo test check unit specs chaos bench clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

demo: $(VENV)/.demo ## the main job on this repository's history, or REPO=../another
	@$(RUN) -m examples.insights --repo $(REPO)

test: $(VENV)/.dev check ## everything: style, types, unit, contract, specs on real Kafka, processes, chaos
	$(RUN) -m pytest -n 3 --dist loadgroup

check: $(VENV)/.dev ## style and types
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

unit: $(VENV)/.dev ## the tests that need no broker
	$(RUN) -m pytest tests/unit

specs: $(VENV)/.dev ## whole small apps on real Kafka
	$(RUN) -m pytest tests/specs -n 3

chaos: $(VENV)/.dev ## faults of all kinds: make chaos MINUTES=60 SEED=7 FAULTS=kill9,freeze PROTOCOL=cooperative ORDER=key
	$(RUN) -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS)) $(if $(PROTOCOL),--protocol $(PROTOCOL)) $(if $(ORDER),--order $(ORDER))

bench: $(VENV)/.dev ## the figures, all or a part: make bench PART=lanes
	$(RUN) -m bench $(PART)

clean: ## what make made
	rm -rf $(VENV) .karafka .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Each stamp says what is installed, so that a second run starts at once.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("karafka needs Python 3.11 or newer, and $(PYTHON) is %d.%d: make PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.demo
