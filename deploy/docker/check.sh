#!/usr/bin/env bash
# Does what `docker build` does where there is no engine: the RUN lines of the Dockerfile's first stage in a bare Debian, the
# second stage as a folder of its own; then starts the image's ENTRYPOINT there and asks its HEALTHCHECK. As root; takes the
# Rust that is installed here in place of the image's.
#
#   deploy/docker/check.sh                     builds everything anew
#   TARGET_DIR=target deploy/docker/check.sh   with what is compiled already
set -euo pipefail
cd "$(dirname "$0")/../.."
dockerfile=deploy/docker/Dockerfile

root=$(mktemp -d)
image=$(mktemp -d)
relay=
clean_up() {
    [ -z "$relay" ] || kill "$relay" 2>/dev/null || true
    # Never a folder that something is still mounted in.
    for at in src/target root/.cargo root/.rustup proc dev; do
        mountpoint -q "$root/$at" && umount "$root/$at"
    done
    if ! grep -q " $root/" /proc/mounts; then rm -rf --one-file-system "$root"; fi
    rm -rf --one-file-system "$image"
}
trap clean_up EXIT

# What the last instruction of this name says.
last() { sed -n "s/^$1 //p" "$dockerfile" | tail -1; }
mount_here() {
    mkdir -p "$root/$2"
    mount --bind "$1" "$root/$2"
}

echo "== FROM $(sed -n 's/^FROM //p' "$dockerfile" | head -1): a bare Debian with a C compiler, and the Rust of this machine"
command -v debootstrap >/dev/null || apt-get install -q -y --no-install-recommends debootstrap
debootstrap --variant=minbase --include=gcc,libc6-dev,binutils bookworm "$root" >"$root.log" || { cat "$root.log"; exit 1; }
rm "$root.log"
mount_here /proc proc
mount_here /dev dev
mount_here "${RUSTUP_HOME:-$HOME/.rustup}" root/.rustup
mount_here "${CARGO_HOME:-$HOME/.cargo}" root/.cargo

echo "== COPY . .: what git knows, as .dockerignore leaves out the rest"
mkdir "$root/src"
git archive HEAD | tar -x -C "$root/src"
[ -z "${TARGET_DIR:-}" ] || mount_here "$TARGET_DIR" src/target

sed -n '/AS build/,/^FROM scratch/s/^RUN //p' "$dockerfile" | while read -r line; do
    echo "== RUN $line"
    chroot "$root" env -i HOME=/root CARGO_HOME=/root/.cargo PATH=/root/.cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        sh -ec "cd /src; $line" </dev/null
done

echo "== FROM scratch"
cp -a "$root/image/." "$image/"
chmod 755 "$image"
find "$image" -printf '%M %U %s /%P\n'
user=$(last USER)
[ "$(stat -c %u:%g "$image/var/lib/forebay")" = "$user" ]
inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "${variables[@]}" chroot --userspec="$user" "$image" "$@"; }
# ["/forebay", "health"] to words.
words() { tr -d '[],"' <<<"$1"; }

variables=(FOREBAY_INTAKE_KEY=0123456789abcdef FOREBAY_OUTPUT=tcp://127.0.0.1:9 FOREBAY_ADMIN=127.0.0.1:39514
    FOREBAY_LISTEN=unixgram:///run/forebay/log)
read -ra start <<<"$(words "$(last ENTRYPOINT)") $(words "$(last CMD)")"
read -ra health <<<"$(words "$(sed -n 's/^HEALTHCHECK .* CMD //p' "$dockerfile")")"
echo "== ENTRYPOINT, CMD: ${start[*]}; HEALTHCHECK: ${health[*]}"
if inside "${health[@]}"; then
    echo "healthy without a relay" >&2
    exit 1
fi
# Not `inside`: a signal is for the relay, and not for a shell before it.
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "${variables[@]}" chroot --userspec="$user" "$image" "${start[@]}" &
relay=$!
for _ in $(seq 100); do
    if inside "${health[@]}" 2>/dev/null; then healthy=yes; break; fi
    sleep 0.1
done
[ "${healthy:-}" = yes ]
kill "$relay"
wait "$relay"
relay=
echo "== all holds"
