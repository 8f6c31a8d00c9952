#!/usr/bin/env bash
# Makes the .deb and the .rpm of the static binary, in target/package, and says where they are.
#
#   cargo install --locked cargo-deb@3.8.0 cargo-generate-rpm@0.21.1
#   deploy/package.sh
#   FOREBAY_STATIC=PATH deploy/package.sh    of a binary that is built already
#   RELEASE=2 deploy/package.sh              the second package of this version
#   KINDS=deb deploy/package.sh              the .deb alone
#   FAST=yes deploy/package.sh               hardly compressed, for a test
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${FOREBAY_STATIC:-$(deploy/build-static.sh | tail -1)}
release=${RELEASE:-1}
out=${CARGO_TARGET_DIR:-target}/package
# Where both tools look for it: a target folder of its own, so that nobody's `cargo build --release` is in the way.
staged=$out/staged
mkdir -p "$staged/release"
install -m 755 "$binary" "$staged/release/forebay"
deb=() rpm=()
if [ "${FAST:-}" = yes ]; then deb=(--fast) rpm=(--payload-compress gzip); fi
for kind in ${KINDS:-deb rpm}; do
    case $kind in
    deb) CARGO_TARGET_DIR=$staged cargo deb --no-build --no-strip --deb-revision "$release" --output "$out" "${deb[@]}" ;;
    rpm) cargo generate-rpm --target-dir "$staged" --set-metadata "release = \"$release\"" --output "$out" "${rpm[@]}" ;;
    *) echo "KINDS: found $kind, expected deb or rpm" >&2; exit 64 ;;
    esac
done
