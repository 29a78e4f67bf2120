#!/usr/bin/env bash
# Installs what tests, demo and checks need beyond a compiler: builds a real Kubernetes control plane from its
# published Go modules, installs the certified OpenID provider and the browser's driver from npm, the SDKs of Coze, OpenAI
# and Anthropic from PyPI, Helm 4 and 3 from their Go modules, cargo-deny, cargo-auditable and auditable2cdx from crates, Prometheus,
# Alertmanager, Chromium, nginx, haproxy, h2load, curl, buildah and dnsmasq from Debian. `node`, which is not part of `all`, is what
# a real node needs beside them: kubelet, containerd and CoreDNS from their Go modules, runc, CNI plugins and the like from Debian.
# Everything built goes to one cache folder outside git, keyed by what defines it, so that a second run does nothing.
#
#   tools/install.sh kubernetes | kubernetes-oldest | node | authorization-server | browser | coze | sdk | helm | cargo-deny | debian | proxies | binaries | images | all
#
# OAUTH_OPERATOR_CACHE   where built tools are kept (default: ~/.cache/oauth-operator)
# KUBEBUILDER_ASSETS     a folder with etcd, kube-apiserver and kubectl (and kube-controller-manager, else it is built) to
#                        use in place of our own
# WITHOUT_DEBIAN=1       go without Prometheus, Chromium, Python and the proxies where they cannot be installed; the tests
#                        that need them then say that they are skipped
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${OAUTH_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/oauth-operator}
mkdir -p target/tools "$cache"

say() { printf '  %s\n' "$*" >&2; }

kubernetes() {
  local out name
  command -v setpriv >/dev/null || { say "setpriv is missing: install the Debian package util-linux"; exit 1; }
  out=$cache/kubernetes-$(kubernetes_version)-$(key_of kubernetes)
  [ -z "${KUBEBUILDER_ASSETS:-}" ] || out=$out-with-assets-$(echo "$KUBEBUILDER_ASSETS" | sha256sum | cut -c1-12)
  for name in etcd kube-apiserver kube-controller-manager kubectl; do
    [ ! -x "${KUBEBUILDER_ASSETS:-/nowhere}/$name" ] || { mkdir -p "$out"; ln -sfn "$KUBEBUILDER_ASSETS/$name" "$out/$name"; }
  done
  go_binary kubernetes "$out" go.etcd.io/etcd/server/v3 etcd
  for name in kube-apiserver kube-controller-manager kubectl; do
    go_binary kubernetes "$out" "k8s.io/kubernetes/cmd/$name" "$name"
  done
  ln -sfn "$out" target/tools/kubernetes
}

# The same of the oldest minor that docs/installation.md claims, for `make skew`.
kubernetes_oldest() {
  local control_plane=kubernetes-oldest out name
  out=$cache/kubernetes-$(kubernetes_version)-$(key_of kubernetes-oldest)
  go_binary kubernetes-oldest "$out" go.etcd.io/etcd/server/v3 etcd
  for name in kube-apiserver kube-controller-manager kubectl; do
    go_binary kubernetes-oldest "$out" "k8s.io/kubernetes/cmd/$name" "$name"
  done
  ln -sfn "$out" target/tools/kubernetes-oldest
}

# What makes a machine of root's a node: kubelet and its like, containerd, CoreDNS, and what Debian has of it.
node() {
  local out name missing=()
  command -v runc >/dev/null || missing+=(runc)
  [ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
  command -v iptables >/dev/null || missing+=(iptables)
  command -v nft >/dev/null || missing+=(nftables)
  command -v ip >/dev/null || missing+=(iproute2)
  command -v mount >/dev/null || missing+=(mount)
  command -v buildah >/dev/null || missing+=(buildah)
  command -v busybox >/dev/null || missing+=(busybox-static)
  command -v prometheus >/dev/null || missing+=(prometheus)
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  [ ${#missing[@]} -eq 0 ] || packages "${missing[@]}"
  out=$cache/node-$(kubernetes_version)-$(key_of kubernetes containerd coredns)
  for name in kubelet kube-scheduler kube-proxy; do
    go_binary kubernetes "$out" "k8s.io/kubernetes/cmd/$name" "$name"
  done
  for name in containerd containerd-shim-runc-v2 ctr; do
    go_binary containerd "$out" "github.com/containerd/containerd/v2/cmd/$name" "$name" -tags no_btrfs,no_devmapper,no_zfs,no_aufs
  done
  go_binary coredns "$out" github.com/coredns/coredns coredns
  ln -sfn "$out" target/tools/node
}

# Of the control plane that is being installed.
kubernetes_version() { awk '$1 == "k8s.io/kubernetes" {print $2}' "tools/${control_plane:-kubernetes}/go.mod"; }

# What defines binaries of these modules.
key_of() {
  local module
  for module in "$@"; do cat "tools/$module/go.mod" "tools/$module/go.sum"; done | cat - <(declare -f go_binary) | sha256sum | cut -c1-12
}

# Builds one binary of a module under tools into a folder, unless it is there: module, folder, package, name, further flags.
go_binary() {
  local module=$1 out=$2 package=$3 name=$4 version flags began pid log=$cache/$1-build.log
  shift 4
  [ ! -x "$out/$name" ] || return 0
  version=$(kubernetes_version)
  # Clients of Kubernetes ask which one it is; to what is none of it these say nothing.
  flags="-s -w -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1"
  flags="$flags -X k8s.io/component-base/version.gitMinor=$(echo "$version" | cut -d. -f2) -X k8s.io/component-base/version.gitTreeState=clean"
  mkdir -p "$out"
  say "building $name (the first build of all takes some minutes) ..."
  began=$SECONDS
  (cd "tools/$module" && CGO_ENABLED=0 nice go build -trimpath -ldflags "$flags" "$@" -o "$out/$name.partial" "$package") >"$log" 2>&1 &
  pid=$!
  while sleep 1 && kill -0 "$pid" 2>/dev/null; do
    [ $(((SECONDS - began) % 20)) -ne 0 ] || say "  still building $name, $((SECONDS - began)) s"
  done
  wait "$pid" || { say "building $name failed:"; cat "$log" >&2; exit 1; }
  mv "$out/$name.partial" "$out/$name"
  say "  $name built in $((SECONDS - began)) s"
}

# The packages of a folder under tests, as its lock file names them.
node_package() {
  local name=$1 key out
  key=$(cat "tests/$name/package-lock.json" | sha256sum | cut -c1-12)
  out=$cache/$name-$key
  if [ ! -f "$out/installed" ]; then
    say "installing what tests/$name needs from the npm registry ..."
    mkdir -p "$out"
    cp "tests/$name/package.json" "tests/$name/package-lock.json" "$out/"
    (cd "$out" && npm ci --no-audit --no-fund --loglevel=error >&2)
    touch "$out/installed"
  fi
  [ ! -d "tests/$name/node_modules" ] || [ -L "tests/$name/node_modules" ] || rm -r "tests/$name/node_modules"
  ln -sfn "$out/node_modules" "tests/$name/node_modules"
}

# The packages of a folder under tests, as its requirements.txt names them.
python_packages() {
  local name=$1 key out
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    packages python3-venv
    python3 -c 'import ensurepip, venv' 2>/dev/null || return 0
  fi
  key=$(sha256sum <"tests/$name/requirements.txt" | cut -c1-12)
  out=$cache/$name-$key
  if [ ! -f "$out/installed" ]; then
    say "installing what tests/$name needs from PyPI ..."
    python3 -m venv --clear "$out"
    "$out/bin/pip" install --quiet --disable-pip-version-check --requirement "tests/$name/requirements.txt" >&2
    touch "$out/installed"
  fi
  ln -sfn "$out" "target/tools/$name"
}

# A program from crates, at target/tools.
crate() { # name, version, how long it takes
  if [ ! -x "$cache/$1-$2/bin/$1" ]; then
    say "installing $1 $2 ($3, once) ..."
    cargo install "$1" --version "$2" --locked --quiet --root "$cache/$1-$2" >&2
  fi
  ln -sfn "$cache/$1-$2/bin/$1" "target/tools/$1"
}

cargo_deny() { crate cargo-deny 0.20.2 "about two minutes"; }

# What the binaries of the images are built with: the version that deploy/Dockerfile installs.
binaries() { crate cargo-auditable "$(sed -n 's/^RUN cargo install cargo-auditable --version \([^ ]*\).*/\1/p' deploy/Dockerfile)" "half a minute"; }

# What puts them into images, says what is in them, and tries them.
images() {
  local missing=()
  binaries
  crate auditable2cdx 0.1.0 "a few seconds"
  command -v buildah >/dev/null || missing+=(buildah)
  command -v dnsmasq >/dev/null || missing+=(dnsmasq-base)
  command -v nginx >/dev/null || missing+=(nginx)
  command -v curl >/dev/null || missing+=(curl)
  command -v openssl >/dev/null || missing+=(openssl)
  command -v ip >/dev/null || missing+=(iproute2)
  command -v jq >/dev/null || missing+=(jq)
  [ ${#missing[@]} -eq 0 ] || packages "${missing[@]}"
}

# Helm 4 and Helm 3, at target/tools/helm4 and helm3: the chart must be the same to both.
helm() {
  local version major out log flags kubernetes
  kubernetes=$(kubernetes_version | cut -d. -f2)
  log=$cache/helm-build.log
  for version in v4.3.1 v3.22.0; do
    major=${version%%.*}
    out=$cache/helm-$version-$({ declare -f helm; echo "$kubernetes"; } | sha256sum | cut -c1-12)
    if [ ! -x "$out/helm" ]; then
      say "building Helm $version (a minute or two, once) ..."
      # The version of Kubernetes that templates are rendered for where no cluster is asked.
      flags="-s -w -X helm.sh/helm/$major/internal/version.version=$version"
      for package in chartutil chart/common lint/rules chart/v2/lint/rules; do
        flags="$flags -X helm.sh/helm/$major/pkg/$package.k8sVersionMajor=1 -X helm.sh/helm/$major/pkg/$package.k8sVersionMinor=$kubernetes"
      done
      mkdir -p "$out"
      GOBIN=$out CGO_ENABLED=0 nice -n 19 go install -trimpath -ldflags "$flags" "helm.sh/helm/$major/cmd/helm@$version" >"$log" 2>&1 \
        || { say "building Helm $version failed:"; cat "$log" >&2; exit 1; }
    fi
    ln -sfn "$out/helm" "target/tools/helm${major#v}"
  done
}

# The kinds of the Prometheus Operator that the chart uses, as its own module publishes them.
monitoring_kinds() {
  local version=v0.85.0 out folder kind
  out=$cache/monitoring-kinds-$version
  if [ ! -f "$out/prometheusrules.yaml" ]; then
    say "fetching the kinds of the Prometheus Operator $version ..."
    folder=$(cd "$cache" && go mod download -json "github.com/prometheus-operator/prometheus-operator@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    mkdir -p "$out"
    for kind in servicemonitors podmonitors prometheusrules; do
      install -m 644 "$folder/example/prometheus-operator-crd/monitoring.coreos.com_$kind.yaml" "$out/$kind.yaml"
    done
  fi
  ln -sfn "$out" target/tools/monitoring-kinds
}

debian() {
  local missing=()
  command -v prometheus >/dev/null && command -v promtool >/dev/null || missing+=(prometheus)
  command -v prometheus-alertmanager >/dev/null && command -v amtool >/dev/null || missing+=(prometheus-alertmanager)
  command -v jq >/dev/null || missing+=(jq)
  command -v chromium >/dev/null || missing+=(chromium)
  [ ${#missing[@]} -eq 0 ] || packages "${missing[@]}"
  proxies
}

# What the sidecar proxy is measured beside, and who speaks to it in tests.
proxies() {
  local missing=()
  command -v nginx >/dev/null || missing+=(nginx)
  command -v haproxy >/dev/null || missing+=(haproxy)
  command -v h2load >/dev/null || missing+=(nghttp2-client)
  command -v curl >/dev/null || missing+=(curl)
  [ ${#missing[@]} -eq 0 ] || packages "${missing[@]}"
}

packages() {
  local missing=("$@") policy=/usr/sbin/policy-rc.d
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing Debian packages: ${missing[*]} ..."
    exec 8>"$cache/apt.lock"
    flock 8
    # Without the services that they would start: tests start what they need, on ports of their own.
    if [ ! -e "$policy" ]; then
      trap "rm -f $policy" EXIT
      printf '#!/bin/sh\nexit 101\n' >"$policy"
      chmod +x "$policy"
    fi
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } \
      >"$cache/apt.log" 2>&1 || { cat "$cache/apt.log" >&2; exit 1; }
    [ -z "$(trap -p EXIT)" ] || rm -f "$policy"
    trap - EXIT
    exec 8>&-
  elif [ "${WITHOUT_DEBIAN:-}" = 1 ]; then
    say "GOING WITHOUT Debian packages, as told: ${missing[*]} (the tests that need them are not run)"
  else
    say "these Debian packages are missing and only root may install them: ${missing[*]}"
    say "install them, or set WITHOUT_DEBIAN=1 to leave out the tests that need them"
    exit 1
  fi
}

# Installs one thing. Who asks for it while another installs it waits: it would be built twice.
alone() {
  {
    flock 9
    "$@"
  } 9>"$cache/$*.lock"
}

case "${1:-all}" in
  kubernetes | node | debian | proxies | binaries | images) alone "$1" ;;
  authorization-server | browser) alone node_package "$1" ;;
  coze | sdk) alone python_packages "$1" ;;
  helm) alone helm; alone monitoring_kinds ;;
  cargo-deny) alone cargo_deny ;;
  kubernetes-oldest) alone kubernetes_oldest ;;
  all) for name in debian kubernetes authorization-server browser coze sdk helm cargo-deny images; do tools/install.sh "$name"; done ;;
  *) say "unknown tool: $1"; exit 2 ;;
esac
