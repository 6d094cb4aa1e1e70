#!/bin/bash
# Installs what building and running Fermata needs on Debian, and nothing when nothing is missing.
# usage: Scripts/setup.sh [demo]     (the demo also needs xz)
set -euo pipefail

fail() { echo "setup: $*" >&2; exit 1; }

# Swift 6.3 or newer. It has no Debian package, so this is the one thing the reader installs.
command -v swift >/dev/null ||
  fail "Swift is missing; install Swift 6.3 from https://www.swift.org/install and put its usr/bin on the PATH"
version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
[ -n "$version" ] || fail "cannot tell the version of $(command -v swift); run 'swift --version' to see why"
if [ "${version%%.*}" -lt 6 ] || { [ "${version%%.*}" -eq 6 ] && [ "${version#*.}" -lt 3 ]; }; then
  fail "Swift $version at $(command -v swift) is too old; install Swift 6.3 from https://www.swift.org/install"
fi

# What is missing is found by looking for the files themselves, so that other ways of installing them count too.
missing=()
need() { missing+=("$1"); echo "setup: $1 is missing ($2)"; }

headers() { [ -e "/usr/include/$1" ] || [ -e "/usr/local/include/$1" ] || compgen -G "/usr/include/*/$1" >/dev/null; }
headers dnnl.h || need libdnnl-dev "oneDNN, which multiplies the matrices"
headers stdlib.h || need libc6-dev "the C library's headers"
# clang takes the newest GCC installation's libraries: libgomp (threads) and libstdc++ (for Foundation).
compgen -G "/usr/lib/gcc/*/*/libgomp.so" >/dev/null || need libgcc-12-dev "libgomp, the thread pool"
compgen -G "/usr/lib/gcc/*/*/libstdc++.so" >/dev/null || need libstdc++-12-dev "the C++ library, which Foundation uses"
command -v git >/dev/null || need git "Swift packages come through it"
if [ "${1:-}" = demo ]; then command -v xz >/dev/null || need xz-utils "the demo compares with xz"; fi
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null ||
  fail "this machine has no apt-get; install the equivalents of these Debian packages yourself: ${missing[*]}"
run=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || fail "not root, and there is no sudo; as root run: apt-get install ${missing[*]}"
  run=(sudo)
fi
install() { "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; }
echo "setup: installing ${missing[*]} with ${run[*]:+${run[*]} }apt-get"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Package lists may be absent or out of date: fetch them and try once more before giving up.
if ! install >"$log" 2>&1 && ! { "${run[@]}" apt-get update -q >"$log" 2>&1 && install >>"$log" 2>&1; }; then
  tail -n 15 "$log" >&2
  fail "could not install ${missing[*]}; the lines above say why (network, package sources or rights)"
fi
echo "setup: done"
