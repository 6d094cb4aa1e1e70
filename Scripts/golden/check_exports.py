"""Loads what `fermata export` writes in transformers and compares logits, for every golden family of Tests/Goldens/families.

    python3 -m venv venv && venv/bin/pip install torch transformers safetensors
    venv/bin/python Scripts/golden/check_exports.py .build/release/fermata

For each family: a folder saved by transformers is exported as it is, as bf16, and that as f32 again; transformers loads each. The first
must give the same bits as the source, the third those of the second. Prints the largest differences and fails on any.
"""

import json
import os
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors import safe_open

GOLDENS = os.path.join(os.path.dirname(__file__), "..", "..", "Tests", "Goldens", "families")


def run(folder, dtype, inputs):
    with open(os.path.join(folder, "config.json")) as file:
        kind = getattr(transformers, json.load(file)["architectures"][0])
    model, notes = kind.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    wrong = [key for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if notes[key]]
    assert not wrong, (folder, {key: notes[key] for key in wrong})
    with torch.no_grad():
        output = model.eval()(**inputs)
    return (output.logits if "logits" in output else output.last_hidden_state).float()


def main():
    fermata = os.path.abspath(sys.argv[1])
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    failures = 0
    for name in sorted(os.listdir(GOLDENS)):
        if not name.endswith(".safetensors"):
            continue
        with safe_open(os.path.join(GOLDENS, name), "pt") as golden, tempfile.TemporaryDirectory() as scratch:
            metadata = golden.metadata()
            if not any(key.startswith("weights/") for key in golden.keys()):
                continue
            names = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids")
            inputs = {key: golden.get_tensor(key).long() for key in names if key in golden.keys()}
            given = golden.get_tensor("logits" if "logits" in golden.keys() else "last_hidden_state")
            kind = getattr(transformers, json.loads(metadata["config"])["architectures"][0])
            with open(os.path.join(scratch, "config.json"), "w") as file:
                file.write(metadata["config"])
            weights = {key[8:]: golden.get_tensor(key) for key in golden.keys() if key.startswith("weights/")}
            model = kind(kind.config_class.from_pretrained(scratch))
            model.load_state_dict(weights, strict=False)
            source, same, half, again = (os.path.join(scratch, part) for part in ("source", "same", "half", "again"))
            model.save_pretrained(source)
            for command in ([source, same], [source, half, "--dtype", "bf16"], [half, again, "--dtype", "f32"]):
                subprocess.run([fermata, "export", "-m", command[0], "-o", *command[1:]], check=True)
            first, second = run(source, torch.float32, inputs), run(same, torch.float32, inputs)
            third, fourth = run(half, torch.float32, inputs), run(again, torch.float32, inputs)
            differences = [(first - second).abs().max().item(), (third - fourth).abs().max().item()]
            rounding = ((third - first).norm() / first.norm()).item()
            golden_difference = (first - given).abs().max().item() if "attention_mask" not in inputs else float("nan")
            failures += differences != [0.0, 0.0]
            print(f"{name[:-12]:18} {kind.__name__:30} as it is {differences[0]:.1e}, bf16 and back {differences[1]:.1e}; "
                  f"bf16 changes logits by {rounding:.1e} relative; golden {golden_difference:.1e}")
    sys.exit(failures > 0)


main()
