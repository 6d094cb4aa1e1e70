"""Writes the golden files of Mamba and Mamba-2: whole mixers of Hugging Face's transformers, outputs and gradients.

Usage:
    python3 -m venv venv && venv/bin/pip install torch numpy safetensors transformers
    venv/bin/python Scripts/golden/make_mamba_goldens.py [output folder, default Tests/Goldens/Mixers]

MambaMixer and Mamba2Mixer run on a processor through PyTorch's own operations, in f32, so results carry that rounding.

Each file holds "weights/<name>", "input" and "doutput" (1, 70, 16), "output", "dinput" and "gradients/<name>"; its metadata
holds the mixer's settings. Names and shapes of the weights are those of the classes.
"""

import json
import platform
import sys
from pathlib import Path

import numpy
import safetensors
import torch
import transformers
from safetensors.torch import save_file
from transformers import Mamba2Config, MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

WIDTH, LENGTH = 16, 70

# name of the file: (mixer, configuration class, mixer class, settings)
CASES = {
    "mamba": ("mamba", MambaConfig, MambaMixer, {"state_size": 8, "time_step_rank": 3}),
    "mamba_biases": (
        "mamba", MambaConfig, MambaMixer,
        {"state_size": 5, "conv_kernel": 3, "expand": 1, "time_step_rank": 2, "use_bias": True, "use_conv_bias": False}),
    "mamba2": ("mamba2", Mamba2Config, Mamba2Mixer, {"num_heads": 4, "head_dim": 8, "state_size": 6, "n_groups": 1}),
    "mamba2_groups": (
        "mamba2", Mamba2Config, Mamba2Mixer,
        {"num_heads": 4, "head_dim": 8, "state_size": 5, "n_groups": 2, "conv_kernel": 2, "time_step_limit": [0.2, 0.9],
         "use_bias": True, "use_conv_bias": False}),
}


def redraw(mixer, generator):
    """Weights of common sizes, so that every part matters: matrices by their inputs, the rest near where it begins."""
    with torch.no_grad():
        for name, value in sorted(mixer.named_parameters()):
            noise = torch.randn(value.shape, generator=generator)
            if name == "conv1d.weight":
                value.copy_(noise * 0.5)
            elif name == "A_log":
                value.copy_(noise * 0.5)
            elif value.dim() > 1:
                value.copy_(noise * value.shape[-1] ** -0.5)
            else:
                value.copy_(noise * 0.3 + (1.0 if name in ("D", "norm.weight") else -0.5))


def make(folder, seed, name):
    kind, configuration, mixer_class, settings = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    config = configuration(hidden_size=WIDTH, num_hidden_layers=1, vocab_size=8, **settings)
    mixer = mixer_class(config, layer_idx=0)
    redraw(mixer, generator)
    x = torch.randn(1, LENGTH, WIDTH, generator=generator).requires_grad_()
    doutput = torch.randn(1, LENGTH, WIDTH, generator=generator)
    output = mixer(x)
    output.backward(doutput)
    weights = dict(mixer.named_parameters())
    tensors = {f"weights/{key}": value for key, value in weights.items()}
    tensors |= {f"gradients/{key}": value.grad for key, value in weights.items()}
    tensors |= {"input": x, "dinput": x.grad, "doutput": doutput, "output": output}
    facts = {
        "script": "Scripts/golden/make_mamba_goldens.py", "seed": seed, "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0], "numpy": numpy.__version__, "safetensors": safetensors.__version__,
        "transformers": transformers.__version__, "mixer": {"type": kind} | settings,
    }
    path = folder / f"{name}.safetensors"
    stored = {key: value.detach().contiguous().clone() for key, value in tensors.items()}
    save_file(stored, path, metadata={"fermata": json.dumps(facts, sort_keys=True)})
    print(f"{path.name}: {path.stat().st_size} bytes, {len(stored)} tensors")


def main():
    torch.set_num_threads(1)
    root = Path(__file__).resolve().parents[2]
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "Tests" / "Goldens" / "Mixers"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(CASES, start=201):
        make(folder, seed, name)


if __name__ == "__main__":
    main()
