#!/bin/bash
# The demo: train a hybrid model on real text for about two minutes, compare it with xz, stream from it.
# usage: Scripts/demo.sh [TEXT]     TEXT: a file or a folder; without it, the licence texts that Debian carries.
# DEMO_TIME=30s makes the training shorter, DEMO_DTYPE=f32 exact.
set -euo pipefail
export LC_NUMERIC=C

text=$(realpath -m -- "${1:-/usr/share/common-licenses}")
cd "$(dirname "$0")/.."
fermata=$(swift build -c release --show-bin-path)/fermata
run=runs/demo-$(date +%Y%m%d-%H%M%S)

heading() { printf '\n=== %s\n\n' "$*"; }
bytes() { printf '%s' "$(($(cat "$@" | wc -c)))"; }
xz_bytes() { cat "$@" | xz -9 -c | wc -c; }

if [ ! -r "$text" ]; then
  echo "demo: cannot read $text; give another text with: make demo TEXT=path" >&2
  exit 1
fi

heading "1. Training for ${DEMO_TIME:-2m} on $text"
cat <<END
A hybrid of six layers (two of gated linear attention to one of attention with a window of 256 bytes) learns to
predict the next byte. Documents that mostly repeat others are left out; a tenth of the text, in whole documents
where there are several, is held out and never trained on. "Bits per byte" is what the model would need to write
down a byte of text: 8 is knowing nothing.

END
"$fermata" train "$text" --output "$run" --config Scripts/demo-config.json --time "${DEMO_TIME:-2m}" \
  --batch 2 --length 512 --dtype "${DEMO_DTYPE:-bf16}" --learning-rate 2e-3 --warmup 50 --dropout 0.1 \
  --validation-fraction 0.1 --deduplicate --save-split --seed 0

heading "2. Against xz"
training=$run/data/training.txt
held_out=$run/data/validation.txt
score=$("$fermata" score --model "$run/best" "$held_out" --json)
model_bits=$(printf '%s' "$score" | tr -d ' \n' | sed -n 's/.*"bits_per_byte":\([0-9.]*\).*/\1/p')
if [ -z "$model_bits" ]; then
  printf 'demo: fermata score gave no bits per byte:\n%s\n' "$score" >&2
  exit 1
fi
model_bits=$(awk -v bits="$model_bits" 'BEGIN { printf "%.3f", bits }')
size=$(bytes "$held_out")
both=$(xz_bytes "$training" "$held_out")
alone=$(xz_bytes "$training")
xz_bits=$(awk -v extra=$((both - alone)) -v size="$size" 'BEGIN { printf "%.3f", extra * 8 / size }')
cat <<END
Held-out text: $size bytes; training text: $(bytes "$training") bytes.

  fermata  $model_bits bits per byte, reading the held-out text from beginning to end with one carried state
  xz -9    $xz_bits bits per byte: ($both bytes for both texts − $alone for the training text) × 8 / $size

Both have seen the training text. xz can copy from it; the model has to have learnt it.
END

heading "3. 2,000 bytes from the model"
echo "It goes on from \"You may\" and is asked never to end the document:"
echo
"$fermata" generate --model "$run/best" -n 2000 --ignore-eos --seed 1 --temp 0.9 --prompt "You may"
echo

heading "4. Speed and memory at 1,000 and at 100,000 streamed tokens"
cat <<END
The state of such a model has one size, however much it has read: its own window and a matrix per head. So speed and
memory do not depend on how long the stream has been. (The second run takes a minute or two.)
END
for count in 1000 100000; do
  echo
  "$fermata" generate --model "$run/best" -n "$count" --ignore-eos --seed 1 2>&1 >/dev/null |
    grep -E 'generated|state|memory' | sed 's/^/  /'
done

heading "Where things are"
cat <<END
  $run/best        the model of the lowest validation loss: config.json, model.safetensors, generation_config.json
  $run/last        the same with optimiser and data position; train on with: fermata train --resume --output $run
  $run/log.jsonl   every step
  $run/loss.svg    the loss curve; any browser shows it
  $run/data        the text, as it was divided

The command is also .build/release/fermata; try
  .build/release/fermata generate --model $run/best --prompt "You may "
END
