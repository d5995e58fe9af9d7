#!/usr/bin/env bash
# Install the system packages that the tests need on Debian or Ubuntu, when root and missing; otherwise say which are missing.
#
#   scripts/system-packages.sh [python|gui|dicom ...]     all groups by default
#
# A missing package is no error: the tests that need it are skipped, with the reason.
set -euo pipefail

# One package a word; alternatives (the name differs between releases) are joined by "|", the first one is installed.
python=(python3-venv)
gui=(
    xvfb xauth libegl1 libgl1 libgl1-mesa-dri libglx-mesa0 libopengl0 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4
    libxcb-keysyms1 libxcb-image0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-randr0 libxcb-sync1 libxcb-xfixes0
    libdbus-1-3 libfontconfig1 "libglib2.0-0|libglib2.0-0t64"
)
dicom=(dicom3tools)
declare -A purpose=(
    [python]="virtual environments"
    [gui]="the tests of windows (marker gui) under Xvfb"
    [dicom]="the validation of written DICOM objects with dciodvfy"
)

say() { echo "system-packages: $*" >&2; }

is_installed() {
    local name
    local -a names
    IFS='|' read -r -a names <<<"$1"
    for name in "${names[@]}"; do
        if [[ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" == installed ]]; then
            return 0
        fi
    done
    return 1
}

missing_of() {
    local -n packages="$1"
    local entry
    for entry in "${packages[@]}"; do
        is_installed "$entry" || echo "${entry%%|*}"
    done
}

has_venv() { "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null; }

groups=("$@")
[[ ${#groups[@]} -gt 0 ]] || groups=(python gui dicom)

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    say "this is not Debian or Ubuntu; tests whose tools are missing (Xvfb with the Qt libraries, dciodvfy) are skipped"
    exit 0
fi

missing=()
for group in "${groups[@]}"; do
    [[ -n "${purpose[$group]:-}" ]] || { say "unknown group '$group'; there are: python gui dicom"; exit 1; }
    if [[ "$group" == python ]] && has_venv; then
        continue
    fi
    mapfile -t found < <(missing_of "$group")
    if [[ ${#found[@]} -gt 0 ]]; then
        say "missing for ${purpose[$group]}: ${found[*]}"
        missing+=("${found[@]}")
    fi
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

if [[ "$(id -u)" -ne 0 ]]; then
    say "not root, so nothing is installed; the tests that need them are skipped. To install them:"
    say "  sudo apt-get install --no-install-recommends ${missing[*]}"
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
say "installing ${missing[*]}"
if apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; then
    say "done"
else
    say "apt-get failed; the tests that need these packages are skipped"
fi
