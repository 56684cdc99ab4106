# make repro: environment, then every dataset of params.yaml from raw scans to the report.
# make test:  environment, then lint, types and all tests: what a change must pass.
# make quick: the same with the fast tests alone, within a minute: for the inner loop.
# make docs:  the reference pages anew from the code.
# make lock:  requirements.txt anew from pyproject.toml (needs uv).

PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: repro test quick lint types docs lock

# Without git, as in an unpacked archive, DVC has to be told that there is none.
repro: .venv/ready
	@git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true
	python -m model preflight
	python -m pipeline fetch
	dvc repro
	@cat report/summary.txt

# As many workers as processors; one that is done takes tests of another (worksteal).
PYTEST := python -m pytest --numprocesses=auto --maxprocesses=8 --dist=worksteal

test: .venv/ready lint types
	$(PYTEST)

quick: .venv/ready lint types
	$(PYTEST) -m "not slow"

lint: .venv/ready
	ruff check .
	ruff format --check .

types: .venv/ready
	mypy

docs: .venv/ready
	python -m docs.generate

EXTRAS := build cluster predict seg test train

lock:
	uv pip compile --quiet --universal --python-version 3.11 $(EXTRAS:%=--extra %) --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header pyproject.toml -o requirements.txt

# antlr4-python3-runtime has no wheel: it is built with the setuptools of the lock, nothing else is.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

.venv/ready: requirements.txt
	@test -n "$(PYTHON)" || { echo "error: expected Python 3.11 to 3.13 on the PATH, found none." \
		"Install one, or name it: make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	sed -n '/^setuptools==/,/# via/p' requirements.txt > .venv/build.txt
	$(PIP) --only-binary=:all: -r .venv/build.txt
	$(PIP) --only-binary=:all: --no-binary=antlr4-python3-runtime --no-build-isolation -r requirements.txt
	touch $@
