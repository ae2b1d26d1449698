# shellcheck shell=bash
# What the scripts share. Sourced, not run; leaves the caller in the project's folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Debian keeps the tools of the administrator out of everybody else's path.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
fail() { say "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo -- "$@"
    else
        fail "this needs root for: $*. Run it as root, or install sudo"
    fi
}

# The engine belongs to root, and to whoever may write to its socket. `limit=SECONDS docker ...` bounds a call.
docker() {
    local client bound=(${limit:+timeout "$limit"})
    client=$(type -P docker) || fail "docker is not installed: run scripts/install"
    if [ -n "${DOCKER_HOST-}" ] || [ -w /var/run/docker.sock ]; then
        "${bound[@]}" "$client" "$@"
    else
        as_root "${bound[@]}" "$client" "$@"
    fi
}

# Has what cargo builds run as root: it starts containers and changes firewall rules.
run_as_root() {
    local host
    [ "$(id -u)" != 0 ] || return 0
    host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${host}_RUNNER=sudo --preserve-env --"
}
