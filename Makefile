# `make` alone lists the targets. Every option is an environment variable too (E2E_…).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m e2e.cli
# Eight processes read the same modules, so that compiling them anew each time shows.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/bytecode

# Options of a lane; empty means the default. LANE= is all four, as lanes are printed.
ifneq ($(filter-out 0 4,$(words $(LANE))),)
$(error LANE="$(LANE)" has not four words, as LANE="v1.37.2 iptables ipv4 two-workers" has)
endif
export E2E_K8S := $(or $(K8S),$(word 1,$(LANE)),$(E2E_K8S))
export E2E_PROXY := $(or $(PROXY),$(word 2,$(LANE)),$(E2E_PROXY))
export E2E_FAMILY := $(or $(FAMILY),$(word 3,$(LANE)),$(E2E_FAMILY))
export E2E_SHAPE := $(or $(SHAPE),$(word 4,$(LANE)),$(E2E_SHAPE))
export E2E_NODE_IMAGE := $(or $(NODE_IMAGE),$(E2E_NODE_IMAGE))
export E2E_KEEP := $(or $(KEEP),$(E2E_KEEP))
export E2E_QUIET := $(or $(QUIET),$(E2E_QUIET))
export E2E_FAMILIES := $(or $(FAMILIES),$(E2E_FAMILIES))
export E2E_ONLY := $(or $(ONLY),$(E2E_ONLY))
export E2E_FAULT := $(or $(FAULT),$(E2E_FAULT))
export E2E_TRUST := $(or $(TRUST),$(E2E_TRUST))
export E2E_SPECS := $(or $(SPECS),$(E2E_SPECS))
export E2E_QUICK := $(or $(QUICK),$(E2E_QUICK))
export E2E_CLUSTERS := $(or $(CLUSTERS),$(E2E_CLUSTERS))
export E2E_SHARD := $(or $(SHARD),$(E2E_SHARD))
export E2E_IN_CLUSTER := $(or $(IN_CLUSTER),$(E2E_IN_CLUSTER))
export E2E_SHARDS := $(or $(SHARDS),$(E2E_SHARDS))
export E2E_IMAGE := $(or $(IMAGE),$(E2E_IMAGE))
export E2E_DRAIN := $(or $(DRAIN),$(E2E_DRAIN))
# By variable, not by option: no shell reads what a context is called.
export E2E_KUBE_CONTEXT := $(or $(CONTEXT),$(E2E_KUBE_CONTEXT))
export E2E_YES := $(or $(YES),$(E2E_YES))
export CLAUSE
# Further options for pytest, such as ARGS="-k affinity".
ARGS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: e2e
e2e: environment ## everything from a bare machine, then remove the cluster; KEEP=1 keeps it; K8S= PROXY= FAMILY= SHAPE= FAMILIES= ONLY= SHARD=1/4
	@$(RUN) run -- $(ARGS)

.PHONY: e2e-here
e2e-here: environment ## the contract on a cluster that exists: CONTEXT=name, by its own pods: IN_CLUSTER=1 SHARDS=4 IMAGE=name
	@$(RUN) run --provider=existing -- $(ARGS)

.PHONY: doctor
doctor: environment ## whether a run can begin here, and what to do if not; changes nothing: K8S= PROXY= FAMILY= SHAPE= CONTEXT=
	@$(RUN) doctor $(if $(E2E_KUBE_CONTEXT),--provider=existing)

.PHONY: plan
plan: environment ## what a run would ask, and why not the rest; touches nothing: K8S= PROXY= FAMILY= SHAPE= FAMILIES= ONLY= CONTEXT=
	@$(RUN) plan $(if $(E2E_KUBE_CONTEXT),--provider=existing)

.PHONY: explain
explain: environment ## what a clause says, what it proves, where it held, how to ask it alone: CLAUSE=reach.control-plane
	@$(RUN) explain "$${CLAUSE:?say which: CLAUSE=reach.control-plane}"

.PHONY: upgrade
upgrade: export E2E_K8S := $(or $(FROM),$(E2E_K8S))
upgrade: export E2E_TO := $(or $(TO),$(E2E_TO))
upgrade: environment ## upgrade a cluster in place under the watch, and verify it: FROM=v1.36.3 TO=v1.37.2 DRAIN=1
	@$(RUN) scenario upgrade $(ARGS)

.PHONY: skew
skew: export E2E_K8S := $(or $(FROM),$(E2E_K8S))
skew: export E2E_TO := $(or $(TO),$(E2E_TO))
skew: environment ## the same with kubelets and kube-proxy left behind: FROM=v1.36.3 TO=v1.37.2
	@$(RUN) scenario skew $(ARGS)

.PHONY: migrate-proxy
migrate-proxy: export E2E_PROXY := $(or $(FROM),$(E2E_PROXY))
migrate-proxy: export E2E_TO := $(or $(TO),$(E2E_TO))
migrate-proxy: environment ## give kube-proxy another mode under the watch, and verify it: FROM=iptables TO=nftables
	@$(RUN) scenario migrate-proxy $(ARGS)

.PHONY: scenario
scenario: environment ## do something else under the watch, and verify it: NAME=restart-node DRAIN=1
	@$(RUN) scenario $(or $(NAME),--help) $(ARGS)

.PHONY: faults
faults: environment ## break a cluster in one way after another, and see which clauses notice: FAULT=name SHARD=1/4 CLUSTERS=2 QUICK=1 TRUST=1 SPECS=1 PROXY= FAMILY=
	@$(RUN) faults $(ARGS)

.PHONY: soak
soak: environment ## one lane again and again, and how often it failed: N=50 CLUSTERS=2 K8S= PROXY= FAMILY= ONLY=
	@$(RUN) soak $(if $(N),--times=$(N)) $(ARGS)

.PHONY: node-image
node-image: environment ## find or build the node image alone: K8S=v1.36.3
	@$(RUN) node-image

.PHONY: test
test: environment-dev ## all that needs no cluster: lint, types, which module imports which, selftest
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	PYTHONPATH=. $(VENV)/bin/lint-imports
	$(RUN) document --check
	@if command -v go >/dev/null; then echo actionlint && go run $(ACTIONLINT); \
	else echo "actionlint: left out, it needs Go"; fi
	$(VENV)/bin/python -m pytest -n 4 --dist loadfile

.PHONY: docs
docs: environment ## write what docs/ has from the code; SEEN=out/junit.xml keeps what held, FAULTS=out/faults.json what was noticed
	@$(RUN) document $(addprefix --seen=,$(SEEN)) $(addprefix --faults=,$(FAULTS))

.PHONY: clean
clean: environment ## remove what interrupted runs left, kept clusters, and the results in out/: CONTEXT=name spares clusters and out/, and lists what is left there, YES=1 removes it
	@$(RUN) clean $(if $(E2E_KUBE_CONTEXT),,--results=out)

.PHONY: stop-engine
stop-engine: environment ## stop the container engine, if `make e2e` started it
	@$(RUN) stop-engine

.PHONY: upstream-specs
upstream-specs: environment ## run Kubernetes' own NodePort specs on a node image, and write docs/upstream-specs.md
	@$(VENV)/bin/python -m e2e.provider.node_image.upstream_specs --report docs/upstream-specs.md

.PHONY: bench
bench: environment ## how fast the harness is; writes docs/benchmarks.md: ARGS="--only specs,growth --times 1"
	@$(VENV)/bin/python -m e2e.bench $(ARGS)

.PHONY: quiet-watch
quiet-watch: environment ## watch what does not change, and see no outage: ARGS="--seconds 1000 --nodes 50 --busy 2"
	@$(VENV)/bin/python -m e2e.selftest.quiet $(ARGS)

.PHONY: lock
lock: ## resolve the dependencies anew, with hashes
	@uv=$$(mktemp -d); trap 'rm -rf "$$uv"' EXIT; \
	$(PYTHON) -m venv "$$uv"; "$$uv/bin/pip" install -q --disable-pip-version-check uv; \
	"$$uv/bin/uv" pip compile $(LOCK) --upgrade pyproject.toml -o requirements.lock; \
	"$$uv/bin/uv" pip compile $(LOCK) --upgrade --group dev -c requirements.lock -o requirements-dev.lock

ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 -shellcheck= -pyflakes=
LOCK := -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

# `python -m venv`, without a stack trace when somebody presses Ctrl-C. What that leaves has no pip.
MAKE_VENV := "import runpy, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); runpy.run_module('venv', run_name='__main__')"

# One line a step, as everywhere; a stamp with the lock's content says that it is done.
define install
	@began=$$SECONDS; \
	if cmp -s $(1) $(VENV)/$(1); then echo "- environment  there already, as $(1) says (0 s)"; else \
	  test -x $(VENV)/bin/pip || $(PYTHON) -c $(MAKE_VENV) --clear $(VENV) || \
	    { echo "x environment  $(PYTHON) cannot make one; on Debian: apt-get install python3-venv"; exit 2; }; \
	  $(VENV)/bin/pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r $(1) || \
	    { echo "x environment  pip could not install $(1); see above"; exit 2; }; \
	  cp $(1) $(VENV)/$(1); \
	  echo "✓ environment  installed $(1) into $(VENV) ($$((SECONDS - began)) s)"; fi
endef

.PHONY: environment
environment:
	$(call install,requirements.lock)

.PHONY: environment-dev
environment-dev: environment
	$(call install,requirements-dev.lock)
