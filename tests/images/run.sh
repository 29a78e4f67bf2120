#!/usr/bin/env bash
# The images' programs, each in its image's root as its user; check.sh calls this in a network and a mount namespace of its own, with a
# folder that has the unpacked images. A real name server and a real web server stand beside them.
set -euo pipefail
folder=$1
version=$2
fail() { echo "$*" >&2; exit 1; }
processes=()
trap 'kill "${processes[@]}" 2>/dev/null || true; wait' EXIT
ip link set lo up

# Certificates: one authority that nobody trusts, and a server of it.
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$folder/ca.key" -out "$folder/ca.crt" -days 1 -subj "/CN=ca of this test" 2>/dev/null
openssl req -newkey rsa:2048 -nodes -keyout "$folder/server.key" -out "$folder/server.csr" -subj "/CN=api.example.test" 2>/dev/null
openssl x509 -req -in "$folder/server.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" -CAcreateserial -days 1 -out "$folder/server.crt" \
  -extfile <(printf 'subjectAltName=DNS:api.example.test\nextendedKeyUsage=serverAuth') 2>/dev/null

cat >"$folder/nginx.conf" <<CONF
pid $folder/nginx.pid;
error_log $folder/nginx.log;
events {}
http {
  access_log off;
  server { listen 127.0.0.1:8080; location / { return 200 "\$host\n"; } }
  server { listen 127.0.0.1:8443 ssl; ssl_certificate $folder/server.crt; ssl_certificate_key $folder/server.key; location / { return 200 "by tls\n"; } }
}
CONF
nginx -c "$folder/nginx.conf" -g 'daemon off;' &
processes+=($!)
dnsmasq --keep-in-foreground --no-resolv --no-hosts --listen-address 127.0.0.1 --bind-interfaces --user=root --pid-file= \
  --address=/api.example.test/127.0.0.1 --log-facility="$folder/dnsmasq.log" &
processes+=($!)

# What a container runtime brings: /proc, /etc/hosts, /etc/resolv.conf, a volume with a token; all else cannot be written to.
mkdir "$folder/token"
printf token >"$folder/token/access_token"
printf 'api.example.test:8443\n' >"$folder/token/allowed_hosts"
printf '127.0.0.1 localhost by-hosts\n' >"$folder/hosts"
printf 'nameserver 127.0.0.1\n' >"$folder/resolv.conf"
for name in oauth-operator oauth-proxy; do
  root=$folder/$name/rootfs
  mkdir "$root/proc" "$root/token"
  touch "$root/etc/hosts" "$root/etc/resolv.conf" "$root/ca.crt"
  mount --bind "$root" "$root"
  mount --rbind /proc "$root/proc"
  mount --bind "$folder/token" "$root/token"
  for file in hosts resolv.conf; do mount --bind "$folder/$file" "$root/etc/$file"; done
  mount --bind "$folder/ca.crt" "$root/ca.crt"
  mount -o remount,ro,bind "$root"
done
within() { local name=$1; shift; chroot --userspec=65532:65532 --groups= "$folder/$name/rootfs" "$@"; }
until_answers() { for _ in $(seq 100); do curl -s -o /dev/null "$1" && return; sleep 0.1; done; fail "$1 does not answer"; }
until_answers http://127.0.0.1:8080

for name in oauth-operator oauth-proxy; do
  ! touch "$folder/$name/rootfs/written" 2>/dev/null || fail "the root of $name can be written to"
  said=$(within $name /$name --version)
  [ "$said" = "$name $version" ] || fail "/$name --version says $said"
done

# Names: from /etc/hosts, and from a name server. One that nobody knows is told so.
finds() { # name, exit code
  local code=0
  within oauth-operator /oauth-operator probe --url "http://$1:8080/" --timeout-seconds 2 >"$folder/said" 2>&1 || code=$?
  if [ "$code" != "$2" ] || ! grep -q "$1" "$folder/said"; then fail "$1: exit code $code: $(cat "$folder/said")"; fi
}
finds by-hosts 0
finds api.example.test 0
finds nobody.example.test 1

# Certificates: the image's bundle is what is trusted, SSL_CERT_FILE takes its place, and so does another bundle in the same place.
through_proxy() { # what is expected
  local proxy status
  "${@:2}" chroot --userspec=65532:65532 --groups= "$folder/oauth-proxy/rootfs" /oauth-proxy --upstream https://api.example.test:8443 \
    --account /token >"$folder/proxy.log" 2>&1 &
  proxy=$!
  processes+=("$proxy")
  until_answers http://127.0.0.1:15081/livez
  status=$(curl -s -o "$folder/answer" -w '%{http_code}' http://127.0.0.1:15080/)
  kill "$proxy"
  wait "$proxy" || true
  [ "$status" = "$1" ] || { cat "$folder/answer" "$folder/proxy.log" >&2; fail "through the proxy ($*): $status, and not $1"; }
}
through_proxy 502
through_proxy 200 env SSL_CERT_FILE=/ca.crt
mount --bind "$folder/ca.crt" "$folder/oauth-proxy/rootfs/etc/ssl/certs/ca-certificates.crt"
through_proxy 200
echo "both run in an empty root, resolve names and trust the certificates of their images"
