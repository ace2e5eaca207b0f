#!/bin/sh
# Oxy next to its peers, in one command; benches/README.md explains the options.
set -eu
cd "$(dirname "$0")/.."
exec cargo run --release --quiet --package oxy-benches --bin peers -- "$@"
