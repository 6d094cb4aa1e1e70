#!/bin/bash
# Learned behaviour: trains small models and grades what they learnt. Documentation/Behaviour.md and Systems.md have the outcome.
# Usage: Scripts/behaviour.sh [parity|copying|induction|recall|memories|h3|lengths|norm|all]...   (by default parity)
# Minutes on one core with nothing else running are said at each. SEEDS=1 tries one seed; LOG (behaviour.jsonl) gets a line a grading.
set -euo pipefail
export LC_NUMERIC=C
cd "$(dirname "$0")/.."
FERMATA=${FERMATA:-.build/release/fermata}
[ -x "$FERMATA" ] || swift build -c release --product fermata

# run TASK OPTIONS...: a model from each seed, trained until all graded answers are right or, with --target 1.1, to the end.
run() {
  echo "== $*"
  [[ "$*" == *--target* ]] || set -- "$@" --target 0.999
  "$FERMATA" task "$@" --seeds "${SEEDS:-1,2,3}" --threads 1 --log "${LOG:-behaviour.jsonl}"
}

# Eight minutes. An answer after each bit in training, and the last answer of four times as many bits is graded.
parity() {
  local mixer sizes=(--width 32 --layers 2 --eval-length 4x --batch 64)
  for mixer in lstm gru slstm mamba '{"type":"gated_linear_attention","num_heads":2}'; do
    run parity --mixer "$mixer" "${sizes[@]}" --length 20 --lr 0.01 --steps 1500
  done
  for mixer in '"num_heads":2' '"num_heads":2,"allow_neg_eigval":true'; do
    run parity --mixer "{\"type\":\"delta_rule\",$mixer}" "${sizes[@]}" --length 40 --lr 0.005 --steps 3000 --target 1.1
  done
}

# Eight minutes. Four tokens of 64 kinds among 120 of noise.
copying() {
  local mixer
  for mixer in mamba s4d; do
    run selective_copying --mixer "$mixer" --width 64 --layers 1 --length 128 --items 4 --vocabulary 64 \
      --lr 0.005 --steps 3000
  done
}

# Four minutes. The last run is graded at 16 times the length of training.
induction() {
  local mixer
  for mixer in mamba s4d; do
    run induction_heads --mixer "$mixer" --width 64 --layers 1 --length 64 --steps 2000
  done
  run induction_heads --mixer mamba --width 64 --layers 2 --length 64 --eval-length 16x --lr 0.005 --steps 1000
}

# A first layer that ties each token to the one before it, below the mixer whose state is varied.
binder='{"type":"mamba","state_size":1,"conv_kernel":2,"expand":1}'
easy=(--width 64 --length 24 --items 8 --vocabulary 16)
hard=(--width 64 --length 48 --items 16 --vocabulary 32)

# above OPTIONS...: recall by the mixer that is the last option, above the first layer.
above() { run associative_recall --layers 2 "${@:1:$#-1}" --mixer "[$binder,${!#}]"; }

# Six minutes. First what the first layer recalls by itself; a state of n features has n × 65 numbers: 3, 6, 10, 15, 45 of them.
recall() {
  local features layers
  for layers in 1 2; do run associative_recall --layers $layers "${hard[@]}" --mixer "$binder" --lr 0.005 --steps 1000; done
  for features in 2 3 4 8; do
    above "${hard[@]}" --lr 0.005 --steps 1000 '{"type":"based","num_heads":1,"feature_dim":'$features',"sliding_window":0}'
  done
  run associative_recall --layers 1 "${easy[@]}" --mixer "$binder" --lr 0.005 --steps 2000
  for features in 1 2 3 4; do
    above "${easy[@]}" --lr 0.005 --steps 2000 '{"type":"based","num_heads":1,"feature_dim":'$features',"sliding_window":0}'
  done
}

# Eight minutes. Each memory, and the one that all tokens share, has 4 × 64 numbers in the first attempt and 2 × 64 in the second.
memories() {
  local width count options
  for width in 4 2; do
    [ $width = 4 ] && options=(--lr 0.005 --steps 1500) || options=(--lr 0.01 --steps 3000)
    for count in 1 2 4 8; do
      above "${easy[@]}" "${options[@]}" '{"type":"mixture_of_memories","num_heads":1,"memory":"linear_attention","key_dim":'$width',
        "num_memories":'$count',"top_k":'$((count < 2 ? 1 : 2))'}'
    done
  done
}

# Nine minutes. H3 holds products of keys and values, S4D does not.
h3() {
  local mixer
  for mixer in '{"type":"h3","head_dim":8}' s4d; do
    run induction_heads --mixer "$mixer" --width 64 --layers 1 --length 64 --lr 0.01 --steps 2000
    run associative_recall --mixer "$mixer" --layers 2 "${easy[@]}" --lr 0.01 --steps 3000
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
  "$FERMATA" train "${TEXT:-/usr/share/common-licenses}" --output "$1" --config "$1.json" --length 256 --batch 8 --steps 300 \
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

# Five minutes. Linear attention under a norm, as TransNormer has it, and over the sum of its features.
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
