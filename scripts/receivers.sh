#!/usr/bin/env bash
# Get the receivers of syslog that drains are tested with: rsyslog and syslog-ng, unpacked from Debian's packages.
#
# Does nothing where both are there. They are not installed, because each of them replaces the other, and the system's
# own log; so it needs no root.
set -euo pipefail
folder=${XDG_CACHE_HOME:-$HOME/.cache}/logsvc/receivers
packages=(rsyslog rsyslog-openssl syslog-ng-core)
# What these need and a small system may lack.
libraries=(libestr0 libfastjson4 liblognorm5 libivykis0 libnet1 libcap2 libglib2.0-0 libjson-c5 libpcre3 libwrap0 libssl3)

say() { printf '==> %s\n' "$*"; }
fail() {
  printf 'receivers: %s\n' "$@" >&2
  exit 1
}

[ -e "$folder/.complete" ] && exit
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
  fail "rsyslog and syslog-ng come as Debian's packages: run the tests of drains on Debian 12"
say "Getting rsyslog and syslog-ng into $folder"
rm -rf "$folder"
mkdir -p "$folder"
cd "$folder"
if ! apt-get download -q "${packages[@]}" "${libraries[@]}" 2>/dev/null; then
  [ "$(id -u)" = 0 ] || fail "Debian's lists of packages are missing. Run this once, then try again: sudo apt-get update"
  apt-get update -q
  apt-get download -q "${packages[@]}" "${libraries[@]}"
fi
for package in *.deb; do dpkg-deb -x "$package" .; done
rm ./*.deb
touch .complete
