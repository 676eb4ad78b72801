# `make` lists the targets. Every target creates the environment that it needs.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-slow test-vllm test-clients test-trainers flywheel test-lmms e2e-real check check-studio format parity bench bench-honesty bench-overhead miniature bench-editor bench-editor-gpu bench-crowd bench-overload bench-scale chaos chaos-net failover rolling soak studio-shots test-containers attacks fuzz sbom audit up clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
CLIENTS := .venv-clients
TRAINERS := .venv-trainers
LMMS := .venv-lmms
TRAIN := .venv-train
READY := $(VENV)/.ready
# The tests run diffusion models, so they need torch; the product on a laptop does not.
READY_DEV := $(VENV)/.ready-dev
READY_TRAIN := $(TRAIN)/.ready
# Test workers. Two cores run the tests in 10 to 15 minutes, and the slow ones in 20 to 35 more.
WORKERS ?= auto
# Of `make miniature`: where it writes, its seed, and options such as --sft-steps 400.
OUT ?= out/miniature
SEED ?= 0
MINIATURE ?=
RUN_MINIATURE = OMP_NUM_THREADS=1 $(TRAIN)/bin/python -m training.miniature $(OUT) --seed $(SEED) $(MINIATURE)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY_DEV) ## create .venv and install everything into it

$(READY): EXTRA := local
$(READY_DEV): EXTRA := dev
$(READY) $(READY_DEV): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(EXTRA)]'
	@touch $@

demo: $(READY) ## edit a real photograph, on the stack that `make up` runs if it does; writes out/demo
	rm -rf out/demo && mkdir -p out/demo
	$(BIN)/editthinker edit examples/photos/coffee.jpg "make it feel like golden hour" \
	  --seed 1 -o out/demo/result.png --save-turns out/demo/turns --report out/demo/report.html

test-fast: $(READY_DEV) ## unit and property tests: no servers, no models (a minute on two cores)
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadgroup tests/unit

test: check ## every check, and every test but those of the files in tests/slow.txt
	$(BIN)/python -m tests.again --numprocesses $(WORKERS) --dist loadgroup -m "not slow"

test-slow: $(READY_DEV) ## the tests of the files in tests/slow.txt: chaos, attacks, real model pipelines, command lines, browsers
	$(BIN)/python -m tests.again --numprocesses $(WORKERS) --dist loadgroup -m slow

check: $(READY_DEV) ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check-studio: ## ESLint and TypeScript over the studio's scripts; needs Node and npm
	tests/studio/check.sh

format: $(READY_DEV) ## format and apply ruff's fixes
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

bench-editor: $(READY_DEV) ## interleaved edits against plain serving (random weights; about six minutes)
	$(BIN)/python -m benchmarks.editor

bench-editor-gpu: $(READY_DEV) ## full-size editors with random weights at every speed preset; needs a GPU (at most eight minutes)
	$(BIN)/python -m benchmarks.editor_gpu

bench-crowd: $(READY_DEV) ## a queue of 100,000 sessions and 1,000 tenants, and single edits in a crowd (about three minutes)
	$(BIN)/python -m benchmarks.crowd

bench-overload: $(READY_DEV) ## an editor worker at ten times its capacity
	$(BIN)/python -m benchmarks.overload

bench-scale: $(READY_DEV) ## load, workers, listeners, replicas, and the reference's way of serving (about 20 minutes)
	$(BIN)/python -m benchmarks.scale

chaos: $(READY_DEV) ## a thousand sessions while processes are killed at random, by sessions too, and clocks jump (five to eight minutes)
	$(BIN)/python -m tests.chaos --sessions 1000 --poisoned 3

chaos-net: $(READY_DEV) ## five hundred sessions while the network between all processes delays, drips, hangs, resets and cuts (five minutes)
	$(BIN)/python -m tests.chaos --network --sessions 500 --open 40 --every 1

failover: $(READY_DEV) ## what a failover of Redis loses, with and without waiting for its replica (two minutes)
	$(BIN)/python -m tests.chaos.failover

rolling: $(READY_DEV) ## rolling restarts of three replicas behind HAProxy under load by the openai client (three minutes)
	$(BIN)/python -m tests.chaos.rolling --rounds 3
	$(BIN)/python -m tests.chaos.rolling --rounds 3 --drain 1.5

soak: $(READY_DEV) ## the model check of claim, lease and append (20,000 examples)
	$(BIN)/python -m tests.model --examples 20000

studio-shots: $(READY_DEV) ## pictures of each screen of the studio, at four widths, light and dark: out/studio (three minutes)
	$(BIN)/python -m tests.studio_shots

test-containers: $(READY_DEV) ## real containers: builds the CPU images, runs the cpu profile (root, Debian)
	tests/containers/prepare.sh .containers
	EDITTHINKER_CONTAINERS=.containers $(BIN)/pytest -s tests/containers

attacks: $(READY_DEV) ## every attack, heavy ones included; two tenants, a day in minutes, the worst pictures; prints the tables of docs/security.md (about 20 minutes)
	$(BIN)/python -m tests.attacks

fuzz: $(READY_DEV) ## ten thousand random edits over all families with random weights: statuses, pictures, memory (about an hour)
	$(BIN)/python -m tests.fuzz --edits 10000

sbom: ## software bill of materials of the orchestrator's image: out/sbom.json (CycloneDX) and a list with hashes
	PYTHON=$(PYTHON) deploy/audit/sbom.sh

audit: ## known vulnerabilities of every pinned package (needs api.osv.dev)
	PYTHON=$(PYTHON) deploy/audit/audit.sh

up: $(READY) ## run the embedded stack on http://127.0.0.1:8080
	$(BIN)/editthinker up

test-vllm: $(READY_DEV) ## a real vLLM on the CPU with toy models; installs it the first time (2.5 GB)
	PYTHON=$(PYTHON) tests/vllm/install.sh $(VLLM)
	EDITTHINKER_VLLM=$(VLLM)/bin/vllm $(BIN)/python -m tests.again tests/vllm

test-lmms: $(READY_DEV) ## lmms-eval, in an environment of its own, runs the whole loop as a model (2.5 GB, minutes)
	PYTHON=$(PYTHON) tests/lmms/install.sh $(LMMS)
	$(BIN)/python -m tests.lmms $(LMMS)

test-clients: $(READY_DEV) ## the clients that people use against the embedded stack; prints the table of docs/clients.md (5 GB, five minutes)
	PYTHON=$(PYTHON) tests/vllm/install.sh $(VLLM)
	PYTHON=$(PYTHON) tests/clients/install.sh $(CLIENTS)
	EDITTHINKER_CLIENTS=$(CLIENTS) EDITTHINKER_VLLM=$(VLLM)/bin/vllm $(BIN)/python -m tests.clients

test-trainers: $(READY_DEV) ## an export read by datasets, TRL and verl themselves; installs them the first time (5 GB, five minutes)
	PYTHON=$(PYTHON) tests/trainers/install.sh $(TRAINERS)
	EDITTHINKER_TRAINERS=$(TRAINERS) $(BIN)/pytest -s tests/trainers

flywheel: $(READY_DEV) ## sessions, export, SFT of a tiny model, sessions with it, export again (minutes); writes out/flywheel
	PYTHON=$(PYTHON) tests/trainers/install.sh $(TRAINERS)
	rm -rf out/flywheel
	$(BIN)/python -m tests.trainers.flywheel --trainers $(TRAINERS) --out out/flywheel

e2e-real: $(READY_DEV) ## one session with a diffusion editor, a vLLM thinker, Redis and the orchestrator, all real processes
	PYTHON=$(PYTHON) tests/vllm/install.sh $(VLLM)
	EDITTHINKER_VLLM=$(VLLM)/bin/vllm $(BIN)/pytest -s tests/vllm/test_e2e_real.py

parity: $(READY_DEV) ## difference between interleaved edits and plain diffusers, by family
	$(BIN)/python -m tests.parity

bench: $(READY_DEV) ## closed-loop benchmark: all strategies at equal numbers of edits
	$(BIN)/python -m benchmarks.closed_loop

bench-honesty: $(READY_DEV) ## is the demo satisfied only with what is right? 1,027 pairs, with a contact sheet in out/honesty.html
	$(BIN)/python -m benchmarks.honesty

bench-overhead: $(READY_DEV) ## CPU, memory and latency of the orchestrator itself
	$(BIN)/python -m benchmarks.overhead

miniature: $(READY_TRAIN) ## a thinker of four million parameters, from nothing, on the CPU: SFT, GRPO, controls, table; OUT=, SEED=; goes on after a kill
	$(RUN_MINIATURE) --stages gap rows read-out sft
	@# The control that cannot look needs nothing of RL: it has the second core.
	$(RUN_MINIATURE) --stages sft-blind & control=$$!; \
	  $(RUN_MINIATURE) --stages grpo sft-longer || { kill $$control; exit 1; }; wait $$control
	$(RUN_MINIATURE) --stages evaluation report

# torchvision's compiled operators do not load with torch for the CPU, and are not needed (tests/vllm/install.sh).
$(READY_TRAIN): pyproject.toml constraints.txt
	test -x $(TRAIN)/bin/python || $(PYTHON) -m venv $(TRAIN)
	$(TRAIN)/bin/pip install --quiet --constraint constraints.txt --editable '.[miniature]'
	sed -i -E 's/^@torch\.library\.register_fake\("torchvision::(\w+)"\)/@register_meta("\1")/' \
	  $(TRAIN)/lib/python*/site-packages/torchvision/_meta_registrations.py
	@touch $@

clean: ## remove the environment and all build results
	rm -rf $(VENV) $(VLLM) $(CLIENTS) $(TRAINERS) $(LMMS) $(TRAIN) .venv-audit out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
