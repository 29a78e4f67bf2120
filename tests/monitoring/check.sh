#!/usr/bin/env bash
# Alerts with the real promtool, routing and inhibition with the real Alertmanager, and a runbook for each alert.
set -euo pipefail
cd "$(dirname "$0")/../.."
rules=charts/oauth-operator/files/rules.yaml
routing=deploy/monitoring/alertmanager.yaml

for tool in promtool amtool prometheus-alertmanager jq; do
  command -v "$tool" >/dev/null && continue
  [ "${WITHOUT_DEBIAN:-}" != 1 ] || { echo "SKIPPED, as told by WITHOUT_DEBIAN=1: $tool is not installed" >&2; exit 0; }
  echo "$tool is missing: tools/install.sh debian" >&2
  exit 1
done

promtool check rules --lint=all --lint-fatal "$rules"
promtool test rules tests/monitoring/*_test.yaml

# Each alert has a runbook, a test that sees it fire, and a row in the documentation; no runbook is of an alert that is gone.
alerts=$(sed -n 's/^ *- alert: //p' "$rules" | sort)
[ -n "$alerts" ]
for alert in $alerts; do
  grep -q "/docs/runbooks/$alert.md$" "$rules" || { echo "$alert: no runbook_url" >&2; exit 1; }
  [ -s "docs/runbooks/$alert.md" ] || { echo "$alert: no docs/runbooks/$alert.md" >&2; exit 1; }
  grep -qh "alertname=\"$alert\"" tests/monitoring/*_test.yaml || { echo "$alert: no test sees it fire" >&2; exit 1; }
  grep -q "runbooks/$alert.md" docs/monitoring.md || { echo "$alert: not in docs/monitoring.md" >&2; exit 1; }
done
diff <(echo "$alerts") <(find docs/runbooks -name '*.md' -printf '%f\n' | sed 's/\.md$//' | sort)

amtool check-config "$routing"
goes_to() { # receiver, labels of the alert
  local receiver=$1 found
  shift
  found=$(amtool config routes test --config.file "$routing" "$@")
  [ "$found" = "$receiver" ] || { echo "$* goes to $found, and not to $receiver" >&2; exit 1; }
}
goes_to pager alertname=OAuthTokenExpired severity=critical
goes_to office-hours alertname=OAuthRenewalOverdue severity=warning

# A real Alertmanager is told of alerts and asked which of them it keeps to itself.
folder=$(mktemp -d)
port=$((20000 + RANDOM % 20000))
prometheus-alertmanager --config.file "$routing" --storage.path "$folder" --cluster.listen-address= \
  --web.listen-address "127.0.0.1:$port" 2>"$folder/log" &
alertmanager=$!
trap 'kill $alertmanager; wait $alertmanager || true; rm -r "$folder"' EXIT
am() { amtool --alertmanager.url "http://127.0.0.1:$port" "$@"; }
for _ in $(seq 100); do
  am alert query >/dev/null 2>&1 && break
  kill -0 "$alertmanager" || { cat "$folder/log" >&2; exit 1; }
  sleep 0.1
done

fires() { am alert add "$@"; }
fires OAuthProviderDown provider=Google
for account in a b; do
  fires OAuthTokenExpired provider=Google namespace=apps name=$account
  fires OAuthAccountNotReady provider=Google namespace=apps name=$account
done
fires OAuthTokenExpired provider=Slack namespace=apps name=c
fires OAuthAccountNotReady provider=Slack namespace=apps name=c
fires OAuthAccountNotReady provider=Slack namespace=apps name=d
told() { am alert query -o json | jq -r '.[] | .labels | "\(.alertname) \(.name // .provider // "")"' | sort; }
said() { # what is heard, of all that fires
  local got
  for _ in $(seq 50); do
    got=$(told)
    [ "$got" != "$1" ] || return 0
    sleep 0.1
  done
  diff <(echo "$1") <(echo "$got")
}
said "OAuthAccountNotReady d
OAuthProviderDown Google
OAuthTokenExpired c"
# The operator is gone: that alone is told, with what is not ours.
fires OAuthOperatorAbsent
fires OAuthProxyErrors namespace=apps route=chat
fires NodeDown node=n1
said "NodeDown 
OAuthOperatorAbsent "
[ "$(am alert query --inhibited -o json | jq length)" = 9 ]
echo "inhibition: of 11 alerts 2 are told"
