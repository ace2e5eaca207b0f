#!/usr/bin/env bash
# The newest nginx and HAProxy that Debian has, next to those of the system: unpacked into a directory with the libraries
# that they need, and nothing installed.
#
#     benches/newest-peers.sh DIR && PATH="DIR/bin:$PATH" benches/peers.sh
set -euo pipefail
dir=$(mkdir -p "$1" && cd "$1" && pwd)
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
suite=${DEBIAN_SUITE:-sid}
packages="nginx libnginx-mod-stream haproxy libc6 libcrypt1 libpcre2-8-0 libssl3t64 zlib1g libzstd1 libjemalloc2 liblua5.4-0
    libopentracing-c-wrapper0t64 libopentracing1 libopentracing1t64 libstdc++6 libgcc-s1"

curl -fsS "$mirror/dists/$suite/main/binary-amd64/Packages.xz" | xz -dc >"$dir/Packages"
for package in $packages; do
    read -r file sum < <(awk -v package="$package" '
        $0 == "Package: " package { found = 1 }
        found && /^Filename:/ { file = $2 }
        found && /^SHA256:/ { sum = $2 }
        found && /^$/ { print file, sum; exit }' "$dir/Packages") || continue
    curl -fsS "$mirror/$file" -o "$dir/package.deb"
    echo "$sum  $dir/package.deb" | sha256sum --check --quiet
    dpkg-deb --extract "$dir/package.deb" "$dir/root"
done
rm "$dir/package.deb" "$dir/Packages"

mkdir -p "$dir/bin"
root=$dir/root
for program in nginx haproxy; do
    printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' "$root/usr/lib64/ld-linux-x86-64.so.2" \
        "$root/usr/lib/x86_64-linux-gnu" "$root/usr/sbin/$program" >"$dir/bin/$program"
    chmod +x "$dir/bin/$program"
    "$dir/bin/$program" -v 2>&1 | head -n 1
done
