# `make` alone lists the targets. Everything lives in .venv; nothing outside the checkout is changed but caches.
SHELL := /bin/bash
.DEFAULT_GOAL := help

BIN := .venv/bin
# The working folder stays off the import path: a folder named `schemas` there must not hide ours.
export PYTHONSAFEPATH := 1

.PHONY: help install java-and-install demo test check bench bench-gpu faults wheel lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

install:  ## make .venv with everything locked (TORCH=2.13.0+cpu, a wheel's path or address takes another torch)
	@TORCH='$(TORCH)' PYTHON='$(PYTHON)' requirements/install.sh

java-and-install:
	@TORCH='$(TORCH)' PYTHON='$(PYTHON)' requirements/install.sh --needs-java

demo: java-and-install  ## a Delta table cleaned and filled by a real model, with what changed shown
	@$(BIN)/burnish doctor
	@$(BIN)/burnish demo

test: java-and-install  ## every test: pure, Spark, engine
	@$(BIN)/python -m pytest -q -n 2 --durations 25 --durations-min 5 tests

check: install  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/pure/test_packages.py

bench: java-and-install  ## measure against raw vLLM and plain Delta; writes tests/bench/RESULTS.md
	$(BIN)/python tests/bench/run.py

bench-gpu: install  ## the same against raw vLLM on a GPU, with an 8B-shaped model
	$(BIN)/python tests/bench/gpu.py

faults: java-and-install  ## inject faults and check what must hold (hours; goes on where it was); CASE=driver picks
	PYTHONPATH=$(CURDIR) $(BIN)/python -m tests.faults.run $(CASE)

wheel: install  ## build dist/burnish-*.whl
	$(BIN)/python -m hatchling build -t wheel -d dist

lock:  ## resolve requirements/cpu.txt again (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
		--custom-compile-command 'make lock' --extra spark --extra cpu --extra demo --extra train --extra evaluate --extra dev \
		--output-file requirements/cpu.txt pyproject.toml

clean:  ## remove .venv and what tools left behind
	rm -rf .venv .venv-uv dist spark-warehouse .pytest_cache .mypy_cache .ruff_cache .hypothesis
