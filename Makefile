# Six verbs for people; each prints the plain commands that it runs, so that they can be typed without make.
#
#   make up       a virtual environment, the install, a local ring of five nodes, and what to type next
#   make test     everything that the tests need, then the tests
#
# Another Python:  make PYTHON=python3.13 up       Arguments:  make up ARGS="--nodes 3"
#                                                              make test ARGS="-k chat"

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup up test check bench kind pythons format

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile
	@echo "  make setup    what the tests and checks need, nothing else"
	@echo "  make check    ruff, mypy --strict, import-linter"
	@echo "  make bench    messages a second, and the machine's bare ceilings beside them"
	@echo "  make pythons  the wheel, with and without the operator, weighed and smoked on every Python 3.11+ that is found"
	@echo "  make format   ruff format and ruff's safe fixes"
	@echo "  make kind     the ring on a local Kubernetes"

# The stamps make the second call quick: pip runs again only when pyproject.toml has changed.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	sys.exit(0 if v >= (3, 11) else "Coterie needs Python 3.11 or newer; $(PYTHON) is %d.%d.%d. \
	Name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)" % v[:3])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

# Tests and checks need the operator's extra too; `up` and `bench` do not.
$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[operator]' --group dev
	@touch $@

setup: $(VENV)/.dev
	@if [ -d .git ]; then echo "$(BIN)/pre-commit install"; $(BIN)/pre-commit install; fi

up: $(VENV)/.installed
	$(BIN)/coterie up $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m tests.tools prepare
	$(BIN)/python -m tests.kube prepare
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed
	$(BIN)/python -m bench $(ARGS)

pythons: $(VENV)/.dev
	.ci/pythons

kind:
	scripts/kind $(ARGS)
