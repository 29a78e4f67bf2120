# The project's interface for people and for CI. Recipes are short; what they run can be run by hand.
.DEFAULT_GOAL := help
SHELL := bash
export CARGO_TERM_COLOR ?= auto

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## See it work: a real control plane, a real authorization server, an operator killed in mid-refresh, a sidecar
	@tools/install.sh kubernetes
	@tools/install.sh authorization-server
	@cargo build --locked --bin oauth-operator --bin oauth-proxy --example demo
	@target/debug/examples/demo

.PHONY: test
test: ## All tests, on real parts; installs what they need
	@tools/install.sh debian
	@tools/install.sh kubernetes
	@tools/install.sh authorization-server
	@tools/install.sh browser
	@tools/install.sh coze
	@tools/install.sh sdk
	@$(MAKE) --no-print-directory monitoring
	@tools/install.sh helm
	@tools/install.sh binaries
	@tools/images.sh binaries
	cargo test --locked
	cd tools/chart && go test -count 1 -tags live -run '^TestOnAPIServer$$' .

.PHONY: images
images: ## Images of operator and proxy, and what is in them, in target/images; tried, and weighed
	@tools/install.sh images
	@tools/images.sh
	@tests/images/check.sh

.PHONY: e2e
e2e: ## The chart and the images on a real single-node cluster, from install to uninstall; needs root (minutes)
	@[ "$$(id -u)" = 0 ] || { echo "make e2e needs root: it starts a node (kubelet, containerd, Pods) in namespaces of its own, and installs Debian packages"; exit 1; }
	@tools/install.sh kubernetes
	@tools/install.sh authorization-server
	@tools/install.sh helm
	@tools/install.sh node
	@tools/install.sh images
	@tools/images.sh
	cargo test --locked --test e2e -- --nocapture

.PHONY: monitoring
monitoring: ## Alerts, runbooks, routing and inhibition, with the real promtool and Alertmanager (the dashboard: make test)
	@tools/install.sh debian
	@tests/monitoring/check.sh

# Stories that ask most of the API server.
CONTROL_PLANE := api:: at_rest:: authority:: bad_input:: encryption:: injection:: leadership:: lifecycle:: login:: lost_writes:: main_job:: refresh_endpoint:: token_secret:: trust:: workflow::

.PHONY: skew
skew: ## The stories of the control plane on the oldest and the newest Kubernetes that we claim (a quarter of an hour each)
	@tools/install.sh kubernetes
	@tools/install.sh kubernetes-oldest
	@tools/install.sh authorization-server
	@tools/install.sh binaries
	@tools/images.sh binaries
	OAUTH_OPERATOR_KUBERNETES=kubernetes-oldest cargo test --locked --test stories -- $(CONTROL_PLANE)
	cargo test --locked --test stories -- $(CONTROL_PLANE)

.PHONY: soak
soak: ## Ten minutes of load on the sidecar while everything fails in turn: not one error that could be avoided
	@tools/install.sh kubernetes
	@tools/install.sh authorization-server
	SOAK_ROUNDS=$(or $(ROUNDS),20) cargo test --locked --test stories soak::

.PHONY: chaos
chaos: ## The leader is killed at random moments: SEED=… repeats a schedule, MINUTES=… says for how long (20), KILLS=… how often at least
	@tools/install.sh kubernetes
	@tools/install.sh authorization-server
	@tools/install.sh binaries
	@tools/images.sh binaries
	CHAOS_SEED=$(or $(SEED),$$(date +%s)) CHAOS_KILLS=$(or $(KILLS),2) CHAOS_SECONDS=$$(( $(or $(MINUTES),20) * 60 )) cargo test --locked --test stories -- chaos:: --nocapture

.PHONY: histories
histories: ## Histories that chance writes, on a real control plane, compared with a small model: SEED=…, MINUTES=… (20)
	@tools/install.sh kubernetes
	@tools/install.sh authorization-server
	HISTORY_SEED=$(or $(SEED),$$(date +%s)) HISTORY_SECONDS=$$(( $(or $(MINUTES),20) * 60 )) cargo test --locked --test stories -- histories:: --nocapture

.PHONY: fuzz
fuzz: ## Fuzz what understands bytes from outside, guided by coverage: FOR=… seconds for each target (60); needs a C++ compiler
	FUZZ_SECONDS=$(or $(FOR),60) tools/fuzz.sh

.PHONY: bench
bench: bench-accounts bench-workflows bench-proxy ## Measure: all of these, one after the other (release builds; a quiet machine)

.PHONY: bench-accounts
bench-accounts: ## Thousands of accounts beside the API server's own ceiling (minutes)
	@tools/install.sh kubernetes
	@tools/install.sh binaries
	@tools/images.sh binaries
	cargo bench --locked --bench accounts

.PHONY: bench-renewals
bench-renewals: ## Ten thousand tokens of five minutes for a quarter of an hour: ACCOUNTS=…, MINUTES=… (not part of bench)
	@tools/install.sh kubernetes
	@tools/install.sh binaries
	@tools/images.sh binaries
	cargo bench --locked --bench renewals

.PHONY: bench-workflows
bench-workflows: ## A thousand runs at once, and what a run takes beyond its requests (minutes)
	@tools/install.sh kubernetes
	@tools/install.sh binaries
	@tools/images.sh binaries
	cargo bench --locked --bench workflows

.PHONY: bench-proxy
bench-proxy: ## The sidecar proxy beside nginx and haproxy (a quarter of an hour; QUICK=1 tries it)
	@tools/install.sh proxies
	@tools/install.sh binaries
	@tools/images.sh binaries
	PROXY_BENCH_BINARY=target/images/binaries/oauth-proxy cargo bench --locked --bench proxy $(if $(QUICK),-- --quick)

.PHONY: bench-refused
bench-refused: ## What a refused token costs an app whose successor is there already (a minute)
	@tools/install.sh kubernetes
	@tools/install.sh binaries
	@tools/images.sh binaries
	cargo bench --locked --bench refused

.PHONY: coverage
coverage: ## Which lines the unit tests run: of the pure core at least 95 %
	@tools/coverage.sh

.PHONY: check
check: ## Format, lints, generated files, the chart, licences
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --lib --no-default-features -- -D warnings
	cargo clippy --locked --lib --bin oauth-proxy --no-default-features --features proxy -- -D warnings
	@cargo tree --locked --no-default-features --features proxy -e normal --prefix none > target/proxy-tree
	@! grep -E '^(kube-client|kube-runtime|reqwest|aws-lc-rs) ' target/proxy-tree || { echo "the proxy without proxy-watch links a client that it should not"; exit 1; }
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet
	@$(MAKE) --no-print-directory crds
	@[ -z "$$(git status --porcelain -- crds docs/providers.md docs/api.md)" ] || { echo "crds/, docs/providers.md or docs/api.md is not what the sources say: commit what 'make crds' has written"; exit 1; }
	@tools/install.sh helm
	@[ -z "$$(gofmt -l tools/chart)" ] || { echo "gofmt -w tools/chart"; exit 1; }
	cd tools/chart && go vet -tags live . && go test -count 1 .
	@tools/install.sh cargo-deny
	target/tools/cargo-deny --log-level warn check bans licenses sources

.PHONY: cluster
cluster: ## Start control plane, authorization server and operator, and leave them running (NODE=1, for root: a node in place of the latter)
	@tools/install.sh kubernetes
	@[ -z "$(NODE)" ] || { tools/install.sh node && tools/install.sh helm && tools/install.sh images && tools/images.sh; }
	@tools/install.sh authorization-server
	@cargo build --locked --bin oauth-operator --example cluster
	@tools/cluster.sh up $(if $(NODE),node)

.PHONY: cluster-down
cluster-down: ## End what `make cluster` has started
	@tools/cluster.sh down

.PHONY: crds
crds: ## Write crds/, docs/api.md and docs/providers.md anew from the sources
	@cargo run --quiet --locked --bin crdgen crds docs/providers.md docs/api.md

.PHONY: chart
chart: ## Write what is made of the chart: its README and schema, deploy/*.yaml, docs/permissions.md
	@tools/install.sh helm
	@cd tools/chart && go run . ../..

.PHONY: tools
tools: ## Install all that tests, demo and checks need
	@tools/install.sh all
