#!/usr/bin/env bash
# Get what the checks of the log pane need: Chromium, and npm's packages for types and accessibility in node_modules.
#
# Does nothing where all of it is there. Installs Debian packages only as root.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '==> %s\n' "$*"; }
fail() {
  printf 'browser: %s\n' "$@" >&2
  exit 1
}

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "Installing ${missing[*]}"
    # The fonts, so that pictures of the pane look alike everywhere.
    apt-get update -q && DEBIAN_FRONTEND=noninteractive \
      apt-get install -q -y --no-install-recommends "${missing[@]}" fonts-dejavu-core
  else
    fail "Chromium and npm are needed for the checks of the log pane. Run this once, then try again:" \
      "  sudo apt-get install ${missing[*]} fonts-dejavu-core"
  fi
fi

# npm leaves this behind when all is there.
if ! [ node_modules/.package-lock.json -nt package-lock.json ]; then
  say "Installing the packages of package-lock.json"
  npm ci --ignore-scripts --no-progress
  touch node_modules/.package-lock.json
fi
