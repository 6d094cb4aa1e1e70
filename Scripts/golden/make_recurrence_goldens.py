"""Writes Tests/Goldens/recurrences.safetensors: recurrences as torch.nn.LSTM, torch.nn.GRU and the sLSTM of the authors' own
package compute them, with the gradients of everything.

Usage:
    python3 -m venv venv && venv/bin/pip install torch numpy safetensors && venv/bin/pip install --no-deps xlstm
    venv/bin/python Scripts/golden/make_recurrence_goldens.py [output folder, default Tests/Goldens]

Made with torch 2.13 and xlstm 2.0.6 (Beck et al. 2024; its plain-PyTorch step, not the CUDA one). Seed 6. Random inputs
are rounded to f32, everything is computed in f64 and rounded to f32 at the end.

Each case is a cell and a number of heads. Gates' inputs are given as `projections` (batch, length, gates * width), so torch's
modules get identity input weights; `recurrent` is (gates * width, width / heads), which torch sees as a block-diagonal
matrix. sLSTM's final states are stored as C / N and log N, from the package's c, n and m.
"""

import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

BATCH, LENGTH, WIDTH, SEED = 2, 12, 8, 6


def vanilla_slstm():
    """The package's plain step, loaded by its path: importing the whole package asks for much more."""
    folder = Path(importlib.metadata.distribution("xlstm").locate_file("xlstm/blocks/slstm/src/vanilla"))
    spec = importlib.util.spec_from_file_location("vanilla", folder / "__init__.py", submodule_search_locations=[str(folder)])
    module = importlib.util.module_from_spec(spec)
    sys.modules["vanilla"] = module
    spec.loader.exec_module(module)
    return module


def dense(recurrent, gates, heads):
    """(gates * width, width / heads) as the block-diagonal (gates * width, width)."""
    blocks = recurrent.reshape(gates, heads, WIDTH // heads, WIDTH // heads)
    return torch.cat([torch.block_diag(*gate) for gate in blocks])


def run_torch(kind, inputs, gates, heads):
    module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](gates * WIDTH, WIDTH, batch_first=True, dtype=torch.float64)
    zeros = torch.zeros(gates * WIDTH, dtype=torch.float64)
    parameters = {
        "weight_ih_l0": torch.eye(gates * WIDTH, dtype=torch.float64),
        "weight_hh_l0": dense(inputs["recurrent"], gates, heads),
        "bias_ih_l0": zeros,
        "bias_hh_l0": inputs.get("bias", zeros),
    }
    start = tuple(inputs[f"initial/{name}"][None] for name in STATES[kind])
    output, final = torch.func.functional_call(module, parameters, (inputs["projections"], start[0] if len(start) == 1 else start))
    return output, [state[0] for state in (final if isinstance(final, tuple) else (final,))]


def run_slstm(vanilla, inputs, heads):
    # The package wants (heads, gates * head width, head width), gates outermost in the inputs.
    head_width = WIDTH // heads
    recurrent = inputs["recurrent"].reshape(4, heads, head_width, head_width).transpose(0, 1)
    states = torch.zeros(4, BATCH, WIDTH, dtype=torch.float64)
    every, last, _ = vanilla.slstm_forward(
        inputs["projections"].transpose(0, 1), states, recurrent.reshape(heads, 4 * head_width, head_width),
        torch.zeros(4 * WIDTH, dtype=torch.float64), vanilla.slstm_pointwise_function_registry["slstm"])
    hidden, cell, normaliser, stabiliser = last
    return every[0, 1:].transpose(0, 1), [hidden, cell / normaliser, stabiliser + normaliser.log()]


STATES = {"lstm": ["hidden", "cell"], "gru": ["hidden"], "slstm": ["hidden", "average", "log_normalizer"]}
GATES = {"lstm": 4, "gru": 3, "slstm": 4}


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "Tests/Goldens")
    generator = torch.Generator().manual_seed(SEED)

    def normal(*shape, deviation=1.0):
        return (torch.randn(*shape, generator=generator) * deviation).double()

    vanilla, tensors = vanilla_slstm(), {}
    for kind, gates in GATES.items():
        for heads in (1, 2):
            head_width = WIDTH // heads
            inputs = {
                "projections": normal(BATCH, LENGTH, gates * WIDTH, deviation=1.5),
                "recurrent": normal(gates * WIDTH, head_width, deviation=head_width**-0.5),
            }
            if kind == "gru":
                inputs["bias"] = normal(gates * WIDTH, deviation=0.5)
            if kind != "slstm":  # the package's sLSTM starts empty
                inputs |= {f"initial/{name}": normal(BATCH, WIDTH, deviation=0.7) for name in STATES[kind]}
            inputs = {name: value.requires_grad_() for name, value in inputs.items()}
            output, final = run_slstm(vanilla, inputs, heads) if kind == "slstm" else run_torch(kind, inputs, gates, heads)
            doutput, dfinal = normal(BATCH, LENGTH, WIDTH), [normal(BATCH, WIDTH) for _ in final]
            torch.autograd.backward([output, *final], [doutput, *dfinal])
            case = inputs | {"output": output, "doutput": doutput}
            case |= {f"final/{name}": value for name, value in zip(STATES[kind], final)}
            case |= {f"dfinal/{name}": value for name, value in zip(STATES[kind], dfinal)}
            case |= {f"gradient/{name}": value.grad for name, value in inputs.items()}
            tensors |= {f"{kind}{heads}/{name}": value for name, value in case.items()}
    facts = {"script": "Scripts/golden/make_recurrence_goldens.py", "seed": SEED, "torch": torch.__version__.split("+")[0],
             "xlstm": importlib.metadata.version("xlstm")}
    stored = {name: value.detach().float().contiguous().clone() for name, value in tensors.items()}
    path = folder / "recurrences.safetensors"
    save_file(stored, path, metadata={"fermata": json.dumps(facts, sort_keys=True)})
    print(f"{path}: {path.stat().st_size} bytes, {len(stored)} tensors")


main()
