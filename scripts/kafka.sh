#!/usr/bin/env bash
# Get what the tests on Kafka need: Java, and Apache Kafka's jars, which Maven puts into the user's cache.
#
# Does nothing where both are there. Installs Debian packages only as root.
set -euo pipefail
cd "$(dirname "$0")/.."

pom=tests/support/kafka-pom.xml
version=$(sed -n 's:.*<artifactId>kafka_2.13</artifactId><version>\(.*\)</version>.*:\1:p' "$pom" | head -1)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/logsvc/kafka/$version

say() { printf '==> %s\n' "$*"; }
fail() {
  printf 'kafka: %s\n' "$@" >&2
  exit 1
}

# Kafka 4 needs Java 17 or newer.
has_java() {
  local release
  release=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p') || return 1
  [ "${release:-0}" -ge 17 ]
}

install() {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "Installing $*"
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
  else
    fail "Java 17 and Maven are needed for the tests on Kafka. Run this once, then try again:" \
      "  sudo apt-get install openjdk-17-jre-headless maven"
  fi
}

has_java || install openjdk-17-jre-headless
[ -e "$folder/.complete" ] && exit
command -v mvn >/dev/null || install maven
say "Getting Apache Kafka $version (43 MB) into $folder"
rm -rf "$folder"
mvn --quiet --batch-mode --file "$pom" dependency:copy-dependencies "-DoutputDirectory=$folder" -DincludeScope=runtime
touch "$folder/.complete"
