#!/usr/bin/env bash
# Builds the binary that is shipped: one file without a library beside it, which runs in an empty folder. Fails where it is not
# static; says its size, and whether that is more than the 12 MiB that it should have at most.
#
#   deploy/build-static.sh                                       for this machine's processor, with glibc inside
#   TARGET=x86_64-unknown-linux-musl deploy/build-static.sh      with musl, where rustup has that target and musl-gcc is there
#
# It prints the path of the binary as its last line. tests/empty_root.rs runs it in an empty root:
#   FOREBAY_STATIC="$(deploy/build-static.sh | tail -1)" cargo test --test empty_root
set -euo pipefail
cd "$(dirname "$0")/.."

SIZE_MAX=$((12 * 1024 * 1024))
TARGET=${TARGET:-$(rustc -vV | sed -n 's/^host: //p')}

# A target is named, so that the flags are those of the program and not of the build scripts and macros on the way. Random numbers
# are the kernel's, asked for by system call: the default looks for a function of the C library that is not found in a
# static program, and then for /dev/urandom, which an empty root has not.
RUSTFLAGS="-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\" ${RUSTFLAGS:-}" \
    cargo build --locked --profile dist --target "$TARGET" --bin forebay

binary=${CARGO_TARGET_DIR:-target}/$TARGET/dist/forebay
if readelf --program-headers "$binary" | grep -q INTERP; then
    echo "$binary is not static: it asks for a loader" >&2
    exit 1
fi
size=$(stat -c %s "$binary")
echo "$size octets of at most $SIZE_MAX"
if [ "$size" -gt "$SIZE_MAX" ]; then
    echo "$binary is larger than it should be" >&2
fi
realpath "$binary"
