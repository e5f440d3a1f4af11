#!/usr/bin/env bash
# Get what the tests of Heroku's API need: the heroku command line, unmodified, and a Node that is new enough for it.
#
# Both come from npm, into the user's cache; npm itself is a Debian package. Does nothing where all is there. Installs
# Debian packages only as root.
set -euo pipefail
cd "$(dirname "$0")/.."

source=tests/heroku
version=$(sed -n 's/.*"heroku": "\(.*\)".*/\1/p' "$source/package.json")
folder=${XDG_CACHE_HOME:-$HOME/.cache}/logsvc/heroku/$version

say() { printf '==> %s\n' "$*"; }
fail() {
  printf 'heroku: %s\n' "$@" >&2
  exit 1
}

install() {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "Installing $*"
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
  else
    fail "Node and npm are needed for the tests of the heroku command line. Run this once, then try again:" \
      "  sudo apt-get install nodejs npm"
  fi
}

if cmp -s "$source/package-lock.json" "$folder/.complete"; then exit; fi
command -v npm >/dev/null || install nodejs npm
say "Getting heroku $version (500 MB) into $folder"
mkdir -p "$folder"
cp "$source/package.json" "$source/package-lock.json" "$source/.npmrc" "$folder"
(cd "$folder" && npm ci --ignore-scripts --no-fund --no-audit --loglevel=error)
cp "$source/package-lock.json" "$folder/.complete"
