#!/usr/bin/env bash
# The images of `make images`: what is in them and nothing else, how large they are, whom they run as; and that the programs run where
# there is nothing else: in an empty root that cannot be written to, where they resolve names and trust the image's certificates.
set -euo pipefail
cd "$(dirname "$0")/../.."
images=target/images
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() { echo "$*" >&2; exit 1; }
same() { [ "$2" = "$3" ] || fail "$1: $3, and not $2"; }

# --- What the Dockerfile says beside what the sources say.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
same "deploy/Dockerfile: VERSION" "$version" "$(sed -n 's/^ARG VERSION=//p' deploy/Dockerfile)"
same "Chart.yaml: appVersion" "$version" "$(sed -n 's/^appVersion: //p' charts/oauth-operator/Chart.yaml)"
channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
same "deploy/Dockerfile: BUILDER" "docker.io/library/rust:$channel-bookworm" "$(sed -n 's/^ARG BUILDER=//p' deploy/Dockerfile)"
# All that the binaries are made of is what the Dockerfile takes into its builder.
host=$(rustc -vV | sed -n 's/^host: //p')
for name in oauth-operator oauth-proxy; do
  read -ra sources < <(sed 's/^[^:]*: //' "target/$host/image/$name.d")
  [ ${#sources[@]} -gt 20 ] || fail "$name.d names ${#sources[@]} sources"
  for file in "${sources[@]}"; do
    case "${file#"$PWD/"}" in src/* | Cargo.* | /*/target/*) ;; *) fail "$name is made of $file, which deploy/Dockerfile does not copy" ;; esac
  done
done

# --- Each image.
check() { # name, repository, features, description, budget in MB
  local name=$1 repository=$2 features=$3 description=$4 budget=$5 tar=$folder/$1 config size
  mkdir -p "$tar/archive" "$tar/rootfs"
  tar -xf "$images/$name.tar" -C "$tar/archive"
  same "$name: names" "[\"$repository:$version\"]" "$(jq -c '.[0].RepoTags' "$tar/archive/manifest.json")"
  same "$name: layers" 1 "$(jq '.[0].Layers | length' "$tar/archive/manifest.json")"
  config=$tar/archive/$(jq -r '.[0].Config' "$tar/archive/manifest.json")
  said() { jq -r "$1 // \"\"" "$config"; }
  label() { said ".config.Labels[\"org.opencontainers.image.$1\"]"; }
  same "$name: user" 65532:65532 "$(said .config.User)"
  same "$name: entrypoint" "[\"/$name\"]" "$(jq -c .config.Entrypoint "$config")"
  same "$name: arguments" "" "$(said .config.Cmd)"
  same "$name: title" "$name" "$(label title)"
  same "$name: description" "$description" "$(label description)"
  same "$name: licenses" Apache-2.0 "$(label licenses)"
  same "$name: source" https://github.com/oauth-operator/oauth-operator "$(label source)"
  same "$name: version" "$version" "$(label version)"
  same "$name: revision" "$(git rev-parse HEAD)" "$(label revision | sed 's/-dirty$//')"
  same "$name: created" "$(said .created)" "$(label created)"

  layer=$tar/archive/$(jq -r '.[0].Layers[0]' "$tar/archive/manifest.json")
  same "$name: files" "drwxr-xr-x 0/0 etc/
drwxr-xr-x 0/0 etc/ssl/
drwxr-xr-x 0/0 etc/ssl/certs/
-rw-r--r-- 0/0 etc/ssl/certs/ca-certificates.crt
-rwxr-xr-x 0/0 $name" "$(tar -tvf "$layer" --numeric-owner | awk '{print $1, $2, $6}')"
  tar -xf "$layer" -C "$tar/rootfs"
  size=$(stat -c %s "$tar/rootfs/$name" "$tar/rootfs/etc/ssl/certs/ca-certificates.crt" | awk '{sum += $1} END {print sum}')
  [ "$size" -lt $((budget * 1000000)) ] || fail "$name: the image has $size bytes, and may have $budget MB"
  ! readelf -lW "$tar/rootfs/$name" | grep INTERP || fail "$name is linked dynamically"

  # The list of what is in it is what cargo says by other means, and no more.
  diff <(jq -r '.components[] | select(.purl // "" | startswith("pkg:cargo/")) | "\(.name) v\(.version)"' "$images/$name.cdx.json" | sort) \
    <(cargo tree --locked --no-default-features --features "$features" -e normal,no-proc-macro --target "$host" --prefix none --format '{p}' \
      | sed 's/ (.*//' | grep -v '^oauth-operator v' | sort -u) || fail "$name.cdx.json is not what is in the image"
  same "$name.cdx.json: program" "$name $version" "$(jq -r '.metadata.component | "\(.name) \(.version)"' "$images/$name.cdx.json")"
  same "$name.cdx.json: beside crates" "ca-certificates glibc rust-std" \
    "$(jq -r '[.components[] | select(.purl == null) | .name] | sort | join(" ")' "$images/$name.cdx.json")"
  same "$name.cdx.json: references without an object" "[]" \
    "$(jq -c '[.dependencies[] | .ref, (.dependsOn // [])[]] - [.metadata.component["bom-ref"], .components[]["bom-ref"]]' "$images/$name.cdx.json")"
  printf '%-16s %5.2f MB of %d MB, %s crates\n' "$name" "$(echo "$size" | awk '{print $1 / 1e6}')" "$budget" \
    "$(jq '[.components[] | select(.purl)] | length' "$images/$name.cdx.json")"
}
check oauth-operator ghcr.io/oauth-operator/oauth-operator operator "Keeps OAuth access tokens fresh in Kubernetes Secrets" 30
check oauth-proxy ghcr.io/oauth-operator/oauth-proxy proxy-watch "Forwards an app's plain requests with fresh OAuth access tokens" 12

# --- In an empty root.
if [ "$(id -u)" != 0 ]; then
  echo "NOT RUN: only root may enter a root of its own; that the programs run in their images has not been tried" >&2
  exit 0
fi
unshare --net --mount tests/images/run.sh "$folder" "$version"
