#!/usr/bin/env bash
# Builds the binary that is shipped: one file without a library beside it, which runs in an empty folder. Fails where it is not
# static, or larger than 12 MiB.
#
#   deploy/build-static.sh                                      with musl inside; takes its compiler and Rust's target:
#                                                                 apt-get install musl-tools
#                                                                 rustup target add "$(uname -m)-unknown-linux-musl"
#   TARGET=x86_64-unknown-linux-gnu deploy/build-static.sh      with glibc inside, 0.6 MiB larger: it is only told of then
#   PROFILE=release deploy/build-static.sh                      for speed; as large as it gets
#
# It prints the path of the binary as its last line. tests/empty_root.rs runs it in an empty root:
#   FOREBAY_STATIC="$(deploy/build-static.sh | tail -1)" cargo test --test empty_root
set -euo pipefail
cd "$(dirname "$0")/.."

SIZE_MAX=$((12 * 1024 * 1024))
SHIPPED="$(uname -m)-unknown-linux-musl"
TARGET=${TARGET:-$SHIPPED}
PROFILE=${PROFILE:-dist}

if [[ $TARGET == *-musl ]]; then
    command -v musl-gcc >/dev/null || { echo "musl-gcc is missing: apt-get install musl-tools, or TARGET=$(uname -m)-unknown-linux-gnu" >&2; exit 1; }
    export "CC_${TARGET//-/_}=musl-gcc"
fi
# Nothing unwinds through C: tables for it are left out. Ours stay.
export CFLAGS="-fno-asynchronous-unwind-tables -fno-unwind-tables ${CFLAGS:-}"
flags=(
    # A target is named below, so that these are for the program and not for the build scripts and macros on the way.
    -C target-feature=+crt-static
    # Random numbers are the kernel's, asked for by system call: the default looks for a function of the C library that is not
    # found in a static program, and then for /dev/urandom, which an empty root has not.
    --cfg 'getrandom_backend="linux_getrandom"'
    # Rust's own linker, which folds functions that came out the same and packs relocations: 1 MiB less.
    -C "link-arg=-B$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/gcc-ld"
    -C link-arg=-fuse-ld=lld -C link-arg=-Wl,--icf=all -C link-arg=-Wl,-z,pack-relative-relocs
)
RUSTFLAGS="${flags[*]} ${RUSTFLAGS:-}" cargo build --locked --profile "$PROFILE" --target "$TARGET" --bin forebay

binary=${CARGO_TARGET_DIR:-target}/$TARGET/$PROFILE/forebay
if readelf --program-headers "$binary" | grep -q INTERP; then
    echo "$binary is not static: it asks for a loader" >&2
    exit 1
fi
size=$(stat -c %s "$binary")
echo "$size octets of at most $SIZE_MAX"
if [ "$size" -gt "$SIZE_MAX" ]; then
    echo "$binary is larger than it should be" >&2
    [ "$PROFILE $TARGET" != "dist $SHIPPED" ] || exit 1
fi
realpath "$binary"
