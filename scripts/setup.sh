#!/usr/bin/env bash
# Bring .venv to what a lock file says, and install logsvc in it.
#
#   scripts/setup.sh run     what the service needs
#   scripts/setup.sh test    that, and what the gates and tests need
#
# Needs Python 3.11 or newer and nothing else, where that Python has venv or pip. Everything goes into .venv; only as
# root, and only where Python has neither, one Debian package is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

what=$1
lock=requirements/$what.txt

say() { printf '==> %s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$@" >&2
  exit 1
}

find_python() {
  local name
  for name in "${PYTHON:-python3}" python3.11 python3.12 python3.13 python3.14; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  fail "Python 3.11 or newer is needed. On Debian: apt-get install python3 python3-venv" \
    "Another Python than python3 can be named: make run PYTHON=/path/to/python"
}

make_venv() {
  say "Making .venv with $("$python" --version)"
  rm -rf .venv
  if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    "$python" -m venv .venv
  elif "$python" -c 'import pip, venv' 2>/dev/null; then
    # Debian splits ensurepip off; the pip outside can install into a venv that has none.
    "$python" -m venv --without-pip .venv
  elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "This Python has neither venv nor pip: installing Debian's python3-venv"
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv
    "$python" -m venv .venv
  else
    fail "This Python can make no virtual environment. Run this once, then try again:" \
      "  sudo apt-get install python3-venv"
  fi
}

pip() {
  if .venv/bin/python -c 'import pip' 2>/dev/null; then
    .venv/bin/python -m pip --disable-pip-version-check --no-input "$@"
  else
    "$python" -m pip --python .venv/bin/python --disable-pip-version-check --no-input "$@"
  fi
}

python=$(find_python)
.venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || make_venv

say "Installing the $(grep -c == "$lock") packages of $lock (the first time takes a minute, most of it ClickHouse's engine)"
pip install --quiet --no-deps --require-hashes --requirement "$lock"
say "Installing logsvc from this folder"
# Compatible mode is a plain path entry; the default adds an import hook, which every start of a command would pay for.
pip install --quiet --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .

touch ".venv/.installed-$what"
# The lock for tests holds everything of the one for running.
if [ "$what" = test ]; then touch .venv/.installed-run; fi
