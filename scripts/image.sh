#!/usr/bin/env bash
# The image of deploy/Dockerfile, built by buildah on a Debian that debootstrap makes here: no registry of images is
# asked. For the tests of the chart; needs root, on Debian.
#
#   scripts/image.sh setup             get what it needs: Debian packages, and the base, kept in the user's cache
#   scripts/image.sh build NAME FILE   build what is in this folder now, and write it to FILE, which containerd imports
#
# Layers are kept too, so a build after a change of the code installs that alone.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/logsvc/image
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
# Authorities that this machine trusts besides Debian's; packages may come through a proxy that they vouch for.
authorities=/usr/local/share/ca-certificates
shopt -s nullglob
base=localhost/debian:$suite-$(cat scripts/image.sh "$authorities"/*.crt | sha256sum | cut -c1-12)

say() { printf '==> %s\n' "$*"; }
fail() {
  printf 'image: %s\n' "$@" >&2
  exit 1
}

packages=(buildah debootstrap)

own_buildah() { buildah --root "$cache/storage" --runroot "$cache/run" "$@"; }

# What a command says is shown where it fails.
quietly() {
  "$@" >"$cache/log" 2>&1 || { tail -n 40 "$cache/log" >&2 && fail "$1 $2 failed: $cache/log has all of it"; }
}

# The machine's own mirror, or debootstrap's choice where that can't be told.
mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $suite" 'Component: main' 2>/dev/null |
    head -1
}

make_base() {
  say "Making a Debian $suite in $cache (the first time takes a minute or two)"
  rm -rf "$cache/base" "$cache/base.tar"
  local from
  from=$(mirror)
  quietly nice -n 10 debootstrap --variant=minbase --include=ca-certificates "$suite" "$cache/base" ${from:+"$from"}
  cp "$authorities"/*.crt "$cache/base$authorities/" 2>/dev/null || true
  quietly chroot "$cache/base" update-ca-certificates
  rm -rf "$cache"/base/var/{lib/apt/lists,cache/apt/archives}/*
  tar -C "$cache/base" --exclude './dev/*' --exclude './proc/*' --exclude './sys/*' -cf "$cache/base.tar" .
  local container
  container=$(own_buildah from scratch)
  quietly own_buildah add "$container" "$cache/base.tar" /
  quietly own_buildah commit --rm "$container" "$base"
  rm -rf "$cache/base" "$cache/base.tar"
}

setup() {
  [ "$(id -u)" = 0 ] || fail "debootstrap takes root."
  if ! command -v buildah >/dev/null || ! command -v debootstrap >/dev/null; then
    command -v apt-get >/dev/null || fail "These Debian packages are needed: ${packages[*]}"
    say "Installing ${packages[*]}"
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
  fi
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
  own_buildah inspect --type image "$base" >/dev/null 2>&1 || make_base
}

build() {
  local name=$1 file=$2
  setup
  # The stage that builds has a name of its own, or its layers would go with what is left over.
  local given=(--layers --pull-never --isolation chroot --format docker --build-arg "BASE=$base"
    --file deploy/Dockerfile --ignorefile deploy/Dockerfile.dockerignore)
  quietly own_buildah build "${given[@]}" --target build --tag localhost/logsvc-build .
  quietly own_buildah build "${given[@]}" --tag "$name" .
  quietly own_buildah rmi --prune --force
  rm -f "$file"
  quietly own_buildah push "$name" "docker-archive:$file:$name"
}

case ${1:-} in
setup) setup ;;
build) build "$2" "$3" ;;
*) fail "setup or build NAME FILE?" ;;
esac
