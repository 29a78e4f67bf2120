#!/usr/bin/env bash
# The images, without a Docker daemon: the binaries are built here, where cargo's cache is, and buildah puts them into the images that
# deploy/Dockerfile describes. Built twice from one commit, they are the same to the byte.
#
#   tools/images.sh binaries   only the binaries: target/images/binaries/{oauth-operator,oauth-proxy,ca-certificates.crt}
#   tools/images.sh            also target/images/{oauth-operator,oauth-proxy}.tar (docker-archives that `docker load` and
#                              `ctr images import` take) and .cdx.json (what is in them, CycloneDX)
#
# SOURCE_DATE_EPOCH   seconds since 1970 that the images are said to be made at (default: the commit's)
set -euo pipefail
cd "$(dirname "$0")/.."
out=target/images
host=$(rustc -vV | sed -n 's/^host: //p')

# As the images that users build with it: what is the same in both is written there.
flags=$(sed -n 's/^ENV RUSTFLAGS="\(.*\)"$/\1/p' deploy/Dockerfile)

binary() { # name, features
  # What was built, and for which machine, is told by cargo's messages.
  RUSTFLAGS=$flags PATH="$PWD/target/tools:$PATH" cargo auditable build --locked --profile image --no-default-features \
    --features "$2" --bin "$1" --target "$host" --message-format json-render-diagnostics >"$out/$1.artifacts"
  cp "target/$host/image/$1" "$out/binaries/"
}

sbom() { # name
  local built more
  built=$(jq -sc --arg folder "/target/$host/" '[.[] | select(.reason == "compiler-artifact" and (.filenames[0] | contains($folder)))
    | .package_id | capture("#(?<name>[^@]+)@(?<version>.+)$") | "\(.name) \(.version)"] | unique' "$out/$1.artifacts")
  more=$(jq -nc --arg rust "$(rustc --version | cut -d' ' -f2)" --arg libc "$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)" \
    --arg bundle "$(sha256sum <"$out/binaries/ca-certificates.crt" | cut -d' ' -f1)" '[
      {type: "library", "bom-ref": "rust-std", name: "rust-std", version: $rust, licenses: [{expression: "MIT OR Apache-2.0"}]},
      {type: "library", "bom-ref": "glibc", name: "glibc", version: $libc, licenses: [{license: {id: "LGPL-2.1-or-later"}}]},
      {type: "file", "bom-ref": "ca-certificates", name: "ca-certificates", version: $bundle[:12], hashes: [{alg: "SHA-256", content: $bundle}]}]')
  target/tools/auditable2cdx "$out/binaries/$1" | jq --arg name "$1" --argjson built "$built" --argjson more "$more" -f tools/sbom.jq >"$out/$1.cdx.json"
}

mkdir -p "$out/binaries"
binary oauth-operator operator
binary oauth-proxy proxy-watch
install -m 644 /etc/ssl/certs/ca-certificates.crt "$out/binaries/"
[ "${1:-}" != binaries ] || exit 0

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse HEAD)
[ -z "$(git status --porcelain)" ] || revision=$revision-dirty
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
build() { buildah --root "$PWD/$out/storage" --runroot "$PWD/$out/run" --storage-driver vfs "$@"; }

# What lies in the storage is a copy: nothing of an earlier build is to be found in this one.
rm -rf "$out/storage" "$out/run"
for name in oauth-operator oauth-proxy; do
  image=ghcr.io/oauth-operator/$name:$version
  build bud --quiet --isolation chroot --pull-never --timestamp "$epoch" --file deploy/Dockerfile --target "${name#oauth-}" \
    --build-arg BINARIES=prebuilt --build-arg VERSION="$version" --build-arg REVISION="$revision" \
    --build-arg CREATED="$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)" --tag "$image" "$out/binaries" >/dev/null
  rm -f "$out/$name.tar"
  build push --quiet "$image" "docker-archive:$out/$name.tar:$image"
  sbom "$name"
done
rm -rf "$out/storage" "$out/run"
