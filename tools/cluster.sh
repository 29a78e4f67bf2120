#!/usr/bin/env bash
# Starts the cluster for trying things by hand, and ends it.
#
#   tools/cluster.sh up        control plane, authorization server and operator
#   tools/cluster.sh up node   control plane and node, for root: Pods run in it, and nothing is installed
#   tools/cluster.sh down
set -euo pipefail
cd "$(dirname "$0")/.."
folder=target/cluster
pid=$folder/pid
settings=$folder/settings.env

running() { [ -f "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; }

case "${1:-}" in
  up)
    if ! running; then
      mkdir -p "$folder"
      rm -f "$settings"
      setsid target/debug/examples/cluster "$PWD/$folder" ${2:+"$2"} >"$folder/log" 2>&1 </dev/null &
      echo $! >"$pid"
      for _ in $(seq 1 240); do
        [ ! -f "$settings" ] || break
        running || { cat "$folder/log"; exit 1; }
        sleep 0.5
      done
    fi
    [ -f "$settings" ] || { echo "not ready after two minutes:"; cat "$folder/log"; exit 1; }
    if [ "${2:-}" = node ]; then
      # It has a network of its own, which the only child of what was started is in.
      cat <<TEXT
The node runs, in a network of its own. Enter it, install the chart, and try things:

    nsenter --target $(cat "/proc/$(cat "$pid")/task/$(cat "$pid")/children") --net bash
    source $PWD/$settings
    target/tools/helm4 install oauth-operator charts/oauth-operator --namespace oauth-operator-system --create-namespace
    target/tools/kubernetes/kubectl get pods -A

End it with \`make cluster-down\`.
TEXT
      exit 0
    fi
    cat <<TEXT
The cluster runs. Its kubeconfig and the provider's address stand in

    $PWD/$settings

Try it:

    source $settings
    kubectl apply -f \$ACCOUNT
    kubectl get oauthaccounts -o wide
    curl -s \$OPERATOR/metrics

End it with \`make cluster-down\`.
TEXT
    ;;
  down)
    if running; then
      kill "$(cat "$pid")"
      for _ in $(seq 1 120); do running || break; sleep 0.25; done
      ! running || { echo "it does not end: process $(cat "$pid")"; exit 1; }
      echo "The cluster has ended."
    else
      echo "No cluster runs."
    fi
    rm -f "$pid" "$settings"
    ;;
  *) echo "usage: tools/cluster.sh up [node] | down"; exit 2 ;;
esac
