#!/usr/bin/env bash
# Makes the .deb and the .rpm of the static binary, in target/package, and says where they are.
#
#   cargo install --locked cargo-deb@3.8.0 cargo-generate-rpm@0.21.1
#   deploy/package.sh
#   FOREBAY_STATIC=PATH deploy/package.sh    of a binary that is built already
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${FOREBAY_STATIC:-$(deploy/build-static.sh | tail -1)}
out=${CARGO_TARGET_DIR:-target}/package
# Where both tools look for it: a target folder of its own, so that nobody's `cargo build --release` is in the way.
staged=$out/staged
mkdir -p "$staged/release"
install -m 755 "$binary" "$staged/release/forebay"
CARGO_TARGET_DIR=$staged cargo deb --no-build --no-strip --output "$out" "$@"
cargo generate-rpm --target-dir "$staged" --output "$out"
