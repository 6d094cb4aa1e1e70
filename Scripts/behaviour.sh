#!/bin/bash
# Learned behaviour: trains small models and grades what they learnt. Documentation/Behaviour.md and Systems.md have the outcome.
# Usage: Scripts/behaviour.sh [parity|copying|induction|recall|memories|h3|lengths|norm|all]...   (by default parity)
# Minutes on one core with nothing else running are said at each. SEEDS=1 tries one seed; LOG (behaviour.jsonl) gets a line a grading.
set -euo pipefail
export LC_NUMERIC=C
cd "$(dirname "$0")/.."
FERMATA=${FERMATA:-.build/release/fermata}
[ -x "$FERMATA" ] || swift build -c release --product fermata

# run TASK OPTIONS...: a model a seed, until all graded answers are right.
run() {
  echo "== $*"
  "$FERMATA" task "$@" --target 0.999 --seeds "${SEEDS:-1,2,3}" --threads 1 --log "${LOG:-behaviour.jsonl}"
}

# Ten minutes. Trained on 20 bits with an answer after each, graded on the last answer of 80.
parity() {
  local mixer delta='{"type":"delta_rule","num_heads":2,"conv_size":4'
  local sizes=(--width 32 --layers 2 --length 20 --eval-length 4x --batch 64)
  for mixer in lstm gru slstm mamba '{"type":"gated_linear_attention","num_heads":2}'; do
    run parity --mixer "$mixer" "${sizes[@]}" --lr 0.01 --steps 1500
  done
  run parity --mixer "$delta}" "${sizes[@]}" --lr 0.005 --steps 1500
  run parity --mixer "$delta,\"allow_neg_eigval\":true}" "${sizes[@]}" --lr 0.005 --steps 3000
}

# Eight minutes. Four tokens of 32 kinds among 120 of noise.
copying() {
  local mixer
  for mixer in mamba s4d; do
    run selective_copying --mixer "$mixer" --width 64 --layers 1 --length 128 --items 4 --vocabulary 32 \
      --lr 0.005 --steps 3000
  done
}

# Four minutes. The last run is graded at 16 times the length of training.
induction() {
  local mixer
  for mixer in mamba s4d; do
    run induction_heads --mixer "$mixer" --width 64 --layers 1 --length 64 --steps 2000
  done
  run induction_heads --mixer mamba --width 64 --layers 1 --length 64 --eval-length 16x --steps 2000
}

# A first layer that ties each token to the one before it, with a state too small to recall by itself, below the one under test.
binder='{"type":"mamba","state_size":1,"conv_kernel":2,"expand":1}'

# Two minutes. 16 pairs of 32 keys and values; the state is features × 65 numbers, of 6, 10, 15 and 45 features.
recall() {
  local features sizes=(--width 64 --layers 2 --length 48 --items 16 --vocabulary 32 --lr 0.005 --steps 1000)
  run associative_recall --mixer "[$binder,$binder]" "${sizes[@]}"
  for features in 2 3 4 8; do
    run associative_recall "${sizes[@]}" --mixer \
      "[$binder,{\"type\":\"based\",\"num_heads\":1,\"feature_dim\":$features,\"sliding_window\":0}]"
  done
}

# Three minutes. 8 pairs of 16 keys and values; each memory, and the shared one, has 4 × 64 numbers.
memories() {
  local count sizes=(--width 64 --layers 2 --length 24 --items 8 --vocabulary 16 --lr 0.005 --steps 1500)
  for count in 1 2 4 8; do
    run associative_recall "${sizes[@]}" --mixer "[$binder,{\"type\":\"mixture_of_memories\",\"num_heads\":1,\"key_dim\":4,
      \"memory\":\"linear_attention\",\"num_memories\":$count,\"top_k\":$((count < 2 ? 1 : 2))}]"
  done
}

# bits MODEL TEXT BYTES: bits per byte of a text in pieces of so many bytes, each read by itself.
bits() {
  local folder piece
  folder=$(mktemp -d)
  split -b "$3" "$2" "$folder/piece"
  for piece in "$folder"/piece*; do "$FERMATA" score --model "$1" "$piece" --json --threads 1; done |
    sed -n 's/.*"bits":\([0-9.e+-]*\),.*"bytes":\([0-9]*\),.*/\1 \2/p' |
    awk '{ bits += $1; bytes += $2 } END { printf "%.4f\n", bits / bytes }'
  rm -r "$folder"
}

# learn FOLDER SEED MIXER: a small model of the licence texts that Debian carries (or TEXT), trained on pieces of 256 bytes.
learn() {
  echo '{"model_type":"fermata","vocab_size":257,"hidden_size":128,"num_hidden_layers":3,"mixers":['"$3"']}' > "$1.json"
  "$FERMATA" train "${TEXT:-/usr/share/common-licenses}" --output "$1" --config "$1.json" --length 256 --batch 8 --steps 600 \
    --deduplicate --save-split --seed "$2" --threads 1 > "$1.log" 2>&1
}

# Three minutes. Held-out text in pieces of the length of training and of eight times that.
lengths() {
  local folder seed
  folder=$(mktemp -d)
  for seed in $(tr , ' ' <<< "${SEEDS:-1,2,3}"); do
    learn "$folder/$seed" "$seed" '{"type":"gated_linear_attention","num_heads":2}'
    for length in 256 2048; do
      echo "gated_linear_attention, seed $seed, pieces of $length bytes:" \
        "$(bits "$folder/$seed/last" "$folder/$seed/data/validation.txt" $length) bits a byte"
    done
  done
  rm -r "$folder"
}

# Six minutes. Linear attention under a norm, as TransNormer has it, and over the sum of its features.
norm() {
  local folder seed kind
  folder=$(mktemp -d)
  for seed in $(tr , ' ' <<< "${SEEDS:-1,2,3}"); do
    for kind in norm sum; do
      learn "$folder/$kind$seed" "$seed" '{"type":"linear_attention","num_heads":2,"normalization":"'$kind'"}'
      echo "linear_attention, $kind, seed $seed:" \
        "$(bits "$folder/$kind$seed/last" "$folder/$kind$seed/data/validation.txt" 256) bits a byte"
    done
  done
  rm -r "$folder"
}

[ "${1:-}" != all ] || set -- parity copying induction recall memories h3 lengths norm
for experiment in "${@:-parity}"; do "$experiment"; done
