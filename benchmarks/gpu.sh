#!/usr/bin/env bash
# Tables about one GPU: segmenting beside other programs (seconds, VRAM, share of the card's bf16 limit, where scores are
# added up), and what torch.compile gains. Written to a file line by line, so that a run that is cut off leaves what it had.
#
# Usage: benchmarks/gpu.sh [OUTPUT.md] [options of inference.py, such as --quick, --rounds 3 or --only memory-3,limit]
#
# Without options: five rows at full size, one round; compiling has at most COMPILE_S seconds (120), the rows LIMIT_S (390).
# Rows that were asked for have as long as they take, unless LIMIT_S is set.
#
# Needs nothing beside the checkout and an interpreter that holds what medseg needs and sees the GPU: PYTHON where it is set,
# else .venv of the checkout, else python3, else an environment that is made in .venv-gpu, once, from the package index.
# nnU-Net's rows say "not run" without an environment of its own, which is taken from NNUNET_PYTHON or .venv-nnunet:
#   python3 -m venv .venv-nnunet && .venv-nnunet/bin/pip install torch==VERSION nnunetv2==2.8.1
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
output=gpu-$(date +%Y-%m-%d).md
if [[ $# -gt 0 && $1 != --* ]]; then
  output=$1
  shift
fi
bound=${LIMIT_S:-}
if [[ $# -eq 0 ]]; then
  set -- --only memory-3,limit,scores,rest-14,memory-14 --rounds 1 --train-steps 10
  bound=${bound:-390}
fi

say() { echo "$*" >&2; }
stop() {
  say "$*"
  exit 1
}
sees_gpu() {
  [[ -x "$(command -v "$1")" ]] &&
    "$1" -c 'import sys, torch, medseg.inference; sys.exit(not torch.cuda.is_available())' >/dev/null 2>&1
}

python=${PYTHON:-}
if [[ -z $python ]]; then
  compgen -G '/dev/nvidia[0-9]*' >/dev/null || [[ -e /dev/dxg ]] || [[ -n "$(command -v nvidia-smi)" ]] ||
    stop "There is no NVIDIA GPU here, or its driver is not installed: run this on a machine that has both."
  for python in "$root/.venv/bin/python" python3 "$root/.venv-gpu/bin/python"; do
    if sees_gpu "$python"; then break; fi
  done
  if ! sees_gpu "$python"; then
    say "Making $root/.venv-gpu (once; some minutes)"
    python3 -m venv "$root/.venv-gpu" && "$python" -m pip install --quiet --disable-pip-version-check "$root" ||
      stop "An environment could not be made in .venv-gpu: set PYTHON to an interpreter that holds what medseg needs."
  fi
fi
sees_gpu "$python" ||
  stop "PyTorch in $python sees no CUDA device, or medseg cannot be imported there: set PYTHON to an interpreter that" \
    "has a CUDA build of PyTorch and what medseg needs, on a machine with an NVIDIA GPU and its driver."

nnunet=${NNUNET_PYTHON:-$root/.venv-nnunet/bin/python}
peers=()
if [[ -x $nnunet ]] && "$nnunet" -c 'import nnunetv2.inference.predict_from_raw_data' >/dev/null 2>&1; then
  peers=(--nnunet-python "$nnunet")
fi

# Run a command, in bounded time where there is a bound; what fails or is cut off is said, and stops nothing.
within() {
  local seconds=$1 code=0
  shift
  if [[ -n $seconds ]]; then timeout "$seconds" "$@" || code=$?; else "$@" || code=$?; fi
  if [[ $code -eq 124 ]]; then
    printf '\nCut off after %s seconds.\n' "$seconds"
  elif [[ $code -ne 0 ]]; then
    printf '\nEnded with exit code %s.\n' "$code"
  fi
}

card=$("$python" -c 'import torch; one = torch.cuda.get_device_properties(0); print(f"{one.name}, {one.total_memory / 1e9:.0f} GB")')
{
  echo "$(date +%Y-%m-%d), $card, commit $(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)"
  printf '\n## Segmenting\n\n'
  within "$bound" "$python" "$root/benchmarks/inference.py" --device cuda ${peers[@]+"${peers[@]}"} "$@"
  printf '\n## torch.compile\n\n'
  within "${COMPILE_S:-120}" "$python" "$root/benchmarks/compile.py" --device cuda
} | tee "$output"
say "Written to $output"
