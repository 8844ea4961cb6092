# `make` lists what there is. Everything happens in .venv; versions are those of requirements/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
RUN := .venv/.run
DEV := .venv/.dev
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check docs lock rabbitmq soak-crashes soak-short soak soak-mutants perf-docs clean \
	bench-loop bench-hops bench-expressions bench-throughput bench-latency bench-peers bench-growth bench-spool \
	bench-inference bench-emitters

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

demo: $(RUN)  ## show the loop on real processes of this host
	@$(BIN)/exhaust demo

test: $(DEV)  ## run all tests; installs the distribution's RabbitMQ if it is missing (as root, or through sudo)
	@tests/needs
	$(BIN)/pytest -q -n 2 --dist loadfile tests/unit
	$(BIN)/pytest -q tests/rabbitmq tests/system

check: $(DEV)  ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DEV)  ## write the references that are made from the code
	$(BIN)/python -m docs.generate

rabbitmq: $(DEV)  ## a private RabbitMQ node to play with, until Ctrl-C
	@tests/needs
	$(BIN)/python -m benchmarks.node --port 5673

bench-loop: $(DEV)  ## death to command, to restart, to verdict, through RabbitMQ, beside the floor
	@tests/needs
	$(BIN)/python -m benchmarks.loop

bench-hops: $(DEV)  ## one hop through RabbitMQ: latency, and processor time of a message
	@tests/needs
	$(BIN)/python -m benchmarks.hops

bench-expressions: $(DEV)  ## evaluations a second, beside another implementation of CEL
	$(BIN)/python -m benchmarks.expressions

bench-throughput: $(DEV)  ## records a second through ten conditions, beside a bare client; actions while they flow
	@tests/needs
	$(BIN)/python -m benchmarks.throughput

bench-latency: $(DEV)  ## record to command at 100, 1,000 and 20,000 records a second, beside the floor
	@tests/needs
	$(BIN)/python -m benchmarks.latency

bench-peers: $(DEV)  ## the same fault under ansible-rulebook, Prometheus with Alertmanager, and monit
	@tests/needs
	$(BIN)/python -m benchmarks.peers

bench-inference: $(DEV)  ## processor time of a record in the analyzers
	$(BIN)/python -m benchmarks.inference

bench-emitters: $(DEV)  ## what observing costs, beside other collectors
	@tests/needs
	$(BIN)/python -m benchmarks.emitters

bench-growth: $(DEV)  ## cost against the number of hosts, rules and open facts
	$(BIN)/python -m benchmarks.growth

bench-spool: $(DEV)  ## ways to keep records safe before they are sent, beside the disk
	$(BIN)/python -m benchmarks.spool

perf-docs: $(DEV)  ## write docs/performance.md from what the benchmarks have kept
	$(BIN)/python -m benchmarks.report

soak-crashes: $(DEV)  ## kill every component at 200 more moments of the loop's way
	@tests/needs
	EXHAUST_CRASHES=200 $(BIN)/pytest -q tests/system/test_crashes.py

soak-short: $(DEV)  ## every fault once, a few minutes, under load: nothing lost, no effect twice
	@tests/soak/needs
	$(BIN)/python -m tests.soak.run --seed 1 --round 1 --slack 2

soak: $(DEV)  ## every fault as often as it takes, about an hour; what was done is kept, and it goes on from there
	@tests/soak/needs
	$(BIN)/python -m tests.soak.run

soak-mutants: $(DEV)  ## check the soak itself: it must find out a product with a seeded fault
	@tests/soak/needs
	$(BIN)/python -m tests.soak.mutants

lock:  ## pin the newest versions that pyproject.toml allows
	$(PYTHON) -m venv .venv/lock && .venv/lock/bin/pip install -q uv
	$(call compile,run,build)
	$(call compile,dev,dev)

compile = UV_INDEX_URL=$$(.venv/lock/bin/pip config get global.index-url 2>/dev/null) \
	.venv/lock/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	--upgrade pyproject.toml --extra build $(if $(filter dev,$(2)),--extra dev) -o requirements/$(1).txt

clean:  ## remove what was installed here
	rm -rf .venv

$(RUN): pyproject.toml requirements/run.txt
	$(call install,run)

$(DEV): pyproject.toml requirements/dev.txt
	$(call install,dev)

define install
	@$(PYTHON) -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "Python 3.11 with its venv module is needed: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "installing requirements/$(1).txt into .venv …"
	@$(BIN)/pip install -q --require-hashes -r requirements/$(1).txt
	@$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@
endef
