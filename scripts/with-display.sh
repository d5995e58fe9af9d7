#!/usr/bin/env bash
# Run a command with a display: the one there is, else a virtual one (Xvfb) if installed, else none.
#
#   scripts/with-display.sh COMMAND [ARGUMENT ...]
set -euo pipefail

if [[ -z "${DISPLAY:-}" ]] && command -v xvfb-run >/dev/null; then
    exec xvfb-run --auto-servernum --server-args="-screen 0 1280x1024x24 +extension GLX" "$@"
fi
exec "$@"
