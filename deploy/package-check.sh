#!/usr/bin/env bash
# Installs the packages of deploy/package.sh in a bare Debian, starts what their unit starts, upgrades, and removes them again;
# the configuration and what is in the spool must stay. As root; the .rpm where `rpm` is installed.
#
#   deploy/package-check.sh OLD.deb NEW.deb [OLD.rpm NEW.rpm]
set -euo pipefail

old=$1 new=$2 old_rpm=${3:-} new_rpm=${4:-}
root=$(mktemp -d)
relay=
clean_up() {
    [ -z "$relay" ] || kill "$relay" 2>/dev/null || true
    rm -rf --one-file-system "$root"
}
trap clean_up EXIT
fail() {
    echo "$*" >&2
    exit 1
}

# The line that systemd would run, as the user that it would make.
start() {
    local line words
    line=$(sed -n 's/^ExecStart=//p' "$root/usr/lib/systemd/system/forebay.service")
    read -ra words <<<"$line"
    install -d -o 65532 -g 65532 "$root/var/lib/forebay" "$root/run/credentials"
    install -m 400 -o 65532 -g 65532 "$root/etc/forebay/keys/default" "$root/run/credentials/key_default"
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin CREDENTIALS_DIRECTORY=/run/credentials \
        chroot --userspec=65532:65532 "$root" "${words[@]}" 2>"$root/log" &
    relay=$!
    for _ in $(seq 100); do
        if chroot "$root" /usr/bin/forebay health -c /etc/forebay/forebay.yaml --admin 127.0.0.1:39514 2>/dev/null; then return; fi
        sleep 0.1
    done
    cat "$root/log" >&2
    fail "not ready"
}

stop() {
    kill "$relay"
    wait "$relay"
    relay=
}

configure() {
    mkdir -p "$root/etc/forebay/keys"
    echo 0123456789abcdef >"$root/etc/forebay/keys/default"
    # Ports that need no capability here, and a line of the administrator's.
    sed -i 's/0\.0\.0\.0:514/127.0.0.1:0/g' "$root/etc/forebay/forebay.yaml"
    printf '\nadmin: {listen: "127.0.0.1:39514"}\n# of the administrator\n' >>"$root/etc/forebay/forebay.yaml"
}

kept() {
    grep -q '^# of the administrator$' "$root/etc/forebay/forebay.yaml" || fail "$1: the configuration is not kept"
    [ -s "$root/etc/forebay/keys/default" ] || fail "$1: the keys are not kept"
    [ -d "$root/var/lib/forebay/spool" ] || fail "$1: the spool is not kept"
}

round() {
    local install=$1 upgrade=$2 remove=$3
    echo "== install: $install"
    $install
    [ "$(stat -c %a "$root/etc/forebay/environment")" = 600 ] || fail "everybody may read the environment"
    configure
    start
    stop
    echo "== upgrade: $upgrade"
    $upgrade
    kept upgrade
    start
    stop
    echo "== remove: $remove"
    $remove
    [ ! -e "$root/usr/bin/forebay" ] && [ ! -e "$root/usr/lib/systemd/system/forebay.service" ] || fail "something is left"
    # rpm gives a changed configuration another name.
    if [ -e "$root/etc/forebay/forebay.yaml.rpmsave" ]; then mv "$root/etc/forebay/forebay.yaml.rpmsave" "$root/etc/forebay/forebay.yaml"; fi
    kept remove
}

# dpkg in a root of its own wants a shell there, for the scripts.
command -v debootstrap >/dev/null || apt-get install -q -y --no-install-recommends debootstrap
debootstrap --variant=minbase bookworm "$root" >/dev/null
chmod 755 "$root"
mkdir "$root/packages"
cp "$old" "$root/packages/old.deb"
cp "$new" "$root/packages/new.deb"
round "chroot $root dpkg -i /packages/old.deb" "chroot $root dpkg --force-confold -i /packages/new.deb" "chroot $root dpkg -r forebay"
chroot "$root" dpkg -P forebay
[ -s "$root/etc/forebay/keys/default" ] || fail "purge: the keys are not kept"

if [ -n "$old_rpm" ]; then
    rm -rf "$root/etc/forebay" "$root/var/lib/forebay"
    options="--root $root --nodeps --noplugins"
    round "rpm $options -i $(realpath "$old_rpm")" "rpm $options -U $(realpath "$new_rpm")" "rpm $options -e forebay"
fi
echo "== all holds"
