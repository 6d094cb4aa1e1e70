#!/bin/bash
# Learned behaviour: trains small models on synthetic tasks, three seeds each. Documentation/Behaviour.md has the outcome.
# Usage: Scripts/behaviour.sh [parity|copying|induction]...   (by default parity; copying takes half an hour on one core)
# SEEDS=1 tries one seed; gradings are appended to $LOG (behaviour.jsonl).
set -euo pipefail
cd "$(dirname "$0")/.."
FERMATA=${FERMATA:-.build/release/fermata}
[ -x "$FERMATA" ] || swift build -c release --product fermata

run() {
  echo "== $*"
  "$FERMATA" task "$@" --target 0.999 --seeds "${SEEDS:-1,2,3}" --threads 1 --log "${LOG:-behaviour.jsonl}"
}

parity() {
  local mixer delta='{"type":"delta_rule","num_heads":2,"conv_size":4'
  local sizes=(--width 32 --layers 2 --length 20 --eval-length 4x --batch 64)
  for mixer in lstm gru slstm mamba '{"type":"gated_linear_attention","num_heads":2}'; do
    run parity --mixer "$mixer" "${sizes[@]}" --lr 0.01 --steps 1500
  done
  run parity --mixer "$delta}" "${sizes[@]}" --lr 0.005 --steps 1500
  run parity --mixer "$delta,\"allow_neg_eigval\":true}" "${sizes[@]}" --lr 0.005 --steps 3000
}

copying() {
  local mixer
  for mixer in mamba s4d; do
    run selective_copying --mixer "$mixer" --width 64 --layers 1 --length 128 --items 8 --steps 1500
    run selective_copying --mixer "$mixer" --width 64 --layers 2 --length 256 --items 16 --vocabulary 16 --steps 1000
  done
}

induction() {
  local mixer
  for mixer in mamba s4d; do
    run induction_heads --mixer "$mixer" --width 64 --layers 1 --length 64 --steps 2000
  done
}

for experiment in "${@:-parity}"; do "$experiment"; done
