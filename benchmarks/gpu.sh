#!/usr/bin/env bash
# The table of benchmarks/inference.py on one GPU: seconds, VRAM, share of the card's bf16 limit, written to a file.
#
# Usage: benchmarks/gpu.sh [OUTPUT.md] [options of inference.py, such as --quick or --only memory-3,limit]
#
# Uses PYTHON where it is set, else .venv of the checkout, else an environment that it makes in .venv-gpu; the one taken
# must see the GPU. nnU-Net gets an environment of its own in .venv-nnunet; where that cannot be made its rows say "not run".
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
output=gpu-$(date +%Y-%m-%d).md
if [[ $# -gt 0 && $1 != --* ]]; then
  output=$1
  shift
fi

say() { echo "$*" >&2; }
sees_gpu() { [[ -x "$(command -v "$1")" ]] && "$1" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; }

python=${PYTHON:-}
if [[ -z $python ]]; then
  python=$root/.venv/bin/python
  if ! sees_gpu "$python"; then
    python=$root/.venv-gpu/bin/python
    if [[ ! -x $python ]]; then
      say "Making $root/.venv-gpu (once; some minutes)"
      python3 -m venv "$root/.venv-gpu"
      "$python" -m pip install --quiet --disable-pip-version-check "$root"
    fi
  fi
fi
if ! sees_gpu "$python"; then
  say "PyTorch in $python sees no CUDA device; expected one GPU with its driver and a CUDA build of PyTorch."
  say "Set PYTHON to an interpreter that has one."
  exit 1
fi

nnunet=$root/.venv-nnunet/bin/python
if [[ ! -x $nnunet ]]; then
  say "Making $root/.venv-nnunet (once; some minutes)"
  version=$("$python" -c 'import torch; print(torch.__version__.partition("+")[0])')
  "$python" -m venv "$root/.venv-nnunet"
  "$nnunet" -m pip install --quiet --disable-pip-version-check "torch==$version" nnunetv2==2.8.1 || say "nnU-Net cannot be installed"
fi
peers=()
if "$nnunet" -c 'import nnunetv2.inference.predict_from_raw_data' >/dev/null 2>&1; then
  peers=(--nnunet-python "$nnunet")
fi

card=$("$python" -c 'import torch; one = torch.cuda.get_device_properties(0); print(f"{one.name}, {one.total_memory / 1e9:.0f} GB")')
{
  echo "$(date +%Y-%m-%d), $card, commit $(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)"
  echo
  PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" "$python" "$root/benchmarks/inference.py" --device cuda ${peers[@]+"${peers[@]}"} "$@"
} | tee "$output"
say "Written to $output"
