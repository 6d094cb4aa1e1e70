"""Writes the golden files of the mixers whose state is a matrix: whole mixers, outputs and gradients.

Usage:
    python3 -m venv venv && venv/bin/pip install torch numpy safetensors einops triton transformers
    venv/bin/pip install --no-deps flash-linear-attention fla-core
    venv/bin/python Scripts/golden/make_linear_goldens.py [output folder, default Tests/Goldens/Mixers]

The recurrence of each is the naive function of flash-linear-attention, which runs on a processor; projections, feature maps
and norms around it are PyTorch's own operations, as the papers have them. In "mixture_of_memories" tokens are sent to memories
and readings mixed by that package's `transform` and `reconstruct`. The naive functions compute in f32, so results carry their
rounding: about 1e-6 relative.

Each file holds "weights/<name>", "input" and "doutput" (1, 70, 16), "output", "dinput" and "gradients/<name>"; its metadata
holds the mixer's settings. Weights are stored as (outputs, inputs), with queries, keys, values, gate and what a rule wants
in one matrix "in_proj.weight", in this order.
"""

import functools
import json
import platform
import sys
from pathlib import Path
from unittest import mock

import numpy
import safetensors
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import fla
from fla.layers import mom
from fla.ops.based.naive import naive_parallel_based
from fla.ops.delta_rule.naive import delta_rule_recurrence
from fla.ops.gated_delta_rule.naive import naive_recurrent_gated_delta_rule
from fla.ops.gla.naive import naive_recurrent_gla
from fla.ops.linear_attn.naive import naive_recurrent_linear_attn
from fla.ops.retention.naive import naive_retention
from fla.ops.simple_gla.naive import naive_recurrent_simple_gla

WIDTH, LENGTH, HEADS = 16, 70, 2
FEATURES, MEMORIES = 5, 3


def normal(generator, *shape, deviation=1.0, mean=0.0):
    return torch.randn(*shape, generator=generator) * deviation + mean


def project(weights, x, *widths, name="in_proj"):
    """x (1, length, width) by one matrix, cut into parts (1, length, heads, width / heads)."""
    parts = F.linear(x, weights[f"{name}.weight"]).split(widths, -1)
    return [part.unflatten(-1, (HEADS, -1)) for part in parts]


def head_norm(weights, o):
    return F.rms_norm(o, o.shape[-1:], weights["norm.weight"], 1e-5)


def finish(weights, o):
    return F.linear(o.flatten(2), weights["o_proj.weight"])


def unit(x):
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def heads_first(x):
    return x.transpose(1, 2)


def rotate(x, base=10000.0):
    """Rotary positions (Su et al. 2021) from 0 on, pairs (i, i + width/2), for x (batch, length, heads, width)."""
    length, half = x.shape[1], x.shape[-1] // 2
    frequency = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency)
    cosine, sine = angle.cos().float()[:, None], angle.sin().float()[:, None]
    low, high = x[..., :half], x[..., half:]
    return torch.cat((low * cosine - high * sine, high * cosine + low * sine), -1)


# --- Mixers: x (1, length, width) to outputs ----------------------------------------------------------------------


def linear_attention(weights, x):
    q, k, v = project(weights, x, WIDTH, WIDTH, WIDTH)
    return finish(weights, naive_recurrent_linear_attn(F.elu(q) + 1, F.elu(k) + 1, v, normalize=True)[0])


def normed_linear_attention(weights, x):
    q, k, v = project(weights, x, WIDTH, WIDTH, WIDTH)
    return finish(weights, head_norm(weights, naive_recurrent_linear_attn(q.relu(), k.relu(), v)[0]))


def retnet(weights, x):
    q, k, v, r = project(weights, x, WIDTH, WIDTH, 2 * WIDTH, 2 * WIDTH)
    o = heads_first(naive_retention(heads_first(rotate(q)), heads_first(rotate(k)), heads_first(v)))
    return finish(weights, head_norm(weights, o) * F.silu(r))


def lightning_attention(weights, x):
    q, k, v, u = project(weights, x, WIDTH, WIDTH, WIDTH, WIDTH)
    gate = (-8.0 / HEADS * torch.arange(HEADS)).expand(1, LENGTH, HEADS)
    o, _ = naive_recurrent_simple_gla(F.silu(q), F.silu(k), v, gate)
    return finish(weights, F.rms_norm(o.flatten(2), (WIDTH,), None, 1e-6) * u.flatten(2))


def gated_linear_attention(weights, x):
    q, k, v, r = project(weights, x, WIDTH // 2, WIDTH // 2, WIDTH, WIDTH)
    logits = F.linear(F.linear(x, weights["gate_down_proj.weight"]), weights["gate_up_proj.weight"],
                      weights["gate_up_proj.bias"])
    gate = (F.logsigmoid(logits) / 16).unflatten(-1, (HEADS, -1))
    o, _ = naive_recurrent_gla(q, k, v, gate)
    return finish(weights, head_norm(weights, o) * F.silu(r))


def delta_rule(weights, x, negative=False):
    q, k, v, rate = project(weights, x, WIDTH, WIDTH, WIDTH, HEADS)
    q, k, v, rate = unit(F.silu(q)), unit(F.silu(k)), F.silu(v), rate.squeeze(-1).sigmoid()
    rate = 2 * rate if negative else rate
    o, _ = delta_rule_recurrence(*(heads_first(t) for t in (q, k, v, rate)))
    return finish(weights, head_norm(weights, heads_first(o)))


def negative_delta_rule(weights, x):
    return delta_rule(weights, x, negative=True)


def gated_delta_rule(weights, x):
    q, k, v, r, rate, step = project(weights, x, WIDTH, WIDTH, WIDTH, WIDTH, HEADS, HEADS)
    if "convolution.weight" in weights:
        channels = torch.cat([part.flatten(2) for part in (q, k, v)], -1).transpose(1, 2)
        mixed = F.conv1d(F.pad(channels, (3, 0)), weights["convolution.weight"], groups=3 * WIDTH).transpose(1, 2)
        q, k, v = (part.unflatten(-1, (HEADS, -1)) for part in mixed.split(WIDTH, -1))
    q, k, v, rate = unit(F.silu(q)), unit(F.silu(k)), F.silu(v), rate.squeeze(-1).sigmoid()
    gate = -F.softplus(step.squeeze(-1) + weights["dt_bias"]) * weights["A_log"].exp()
    o, _ = naive_recurrent_gated_delta_rule(q, k, v, rate, gate)
    return finish(weights, head_norm(weights, o) * F.silu(r))


def based(weights, x):
    q, k, v = project(weights, x, HEADS * FEATURES, HEADS * FEATURES, WIDTH)
    return finish(weights, heads_first(naive_parallel_based(*(heads_first(t) for t in (q, k, v)))))


def mixture_of_memories(weights, x, top=2):
    """The gated delta rule in each memory, over the tokens that the package sends there; the shared one sees all of them."""

    def read(name, tokens):
        q, _ = project(weights, tokens, WIDTH, WIDTH)
        k, v, rate, step = project(weights, tokens, WIDTH, WIDTH, HEADS, HEADS, name=f"{name}.in_proj")
        q, k, v, rate = unit(F.silu(q)), unit(F.silu(k)), F.silu(v), rate.squeeze(-1).sigmoid()
        gate = -F.softplus(step.squeeze(-1) + weights[f"{name}.dt_bias"]) * weights[f"{name}.A_log"].exp()
        return naive_recurrent_gated_delta_rule(q, k, v, rate, gate)[0].flatten(2)

    shares, chosen = F.linear(x, weights["router.weight"]).softmax(-1).topk(top)
    shares = shares / shares.sum(-1, keepdim=True)
    mask = torch.zeros(1, LENGTH, MEMORIES, dtype=torch.int64).scatter(-1, chosen, 1)
    # The package relies on a sort that leaves the tokens of a memory in order, which argsort does on a processor only if asked to.
    with mock.patch.object(torch.Tensor, "argsort", functools.partialmethod(torch.Tensor.argsort, stable=True)):
        routed, places, order, _, valid, _ = mom.transform(x, mask, MEMORIES, chosen, None)
    readings = torch.stack([read(f"memories.{m}", routed[m]) for m in range(MEMORIES)])
    mixed = mom.reconstruct(readings, places, order, 1, LENGTH, top, shares, valid) + read("shared", x)
    _, r = project(weights, x, WIDTH, WIDTH)
    return finish(weights, head_norm(weights, mixed.unflatten(-1, (HEADS, -1))) * F.silu(r))


def matrix(inputs, outputs):
    return {"in_proj.weight": (outputs, inputs), "o_proj.weight": (WIDTH, WIDTH)}


NORM = {"norm.weight": (WIDTH // HEADS,)}
DECAY = {"A_log": (HEADS,), "dt_bias": (HEADS,)}
MEMORY = {"in_proj.weight": (2 * WIDTH + 2 * HEADS, WIDTH)} | DECAY

# name of the file: (mixer, its settings, function, shapes of the weights)
CASES = {
    "linear_attention": ("linear_attention", {}, linear_attention, matrix(WIDTH, 3 * WIDTH)),
    "linear_attention_norm": (
        "linear_attention", {"feature_map": "relu", "normalization": "norm"}, normed_linear_attention,
        matrix(WIDTH, 3 * WIDTH) | NORM),
    "retnet": (
        "retnet", {}, retnet,
        matrix(WIDTH, 6 * WIDTH) | {"o_proj.weight": (WIDTH, 2 * WIDTH), "norm.weight": (2 * WIDTH // HEADS,)}),
    "lightning_attention": ("lightning_attention", {}, lightning_attention, matrix(WIDTH, 4 * WIDTH)),
    "gated_linear_attention": (
        "gated_linear_attention", {}, gated_linear_attention,
        matrix(WIDTH, 3 * WIDTH) | NORM | {"gate_down_proj.weight": (16, WIDTH), "gate_up_proj.weight": (WIDTH // 2, 16),
                                           "gate_up_proj.bias": (WIDTH // 2,)}),
    "delta_rule": ("delta_rule", {}, delta_rule, matrix(WIDTH, 3 * WIDTH + HEADS) | NORM),
    "delta_rule_negative": (
        "delta_rule", {"allow_neg_eigval": True}, negative_delta_rule, matrix(WIDTH, 3 * WIDTH + HEADS) | NORM),
    "gated_delta_rule": (
        "gated_delta_rule", {}, gated_delta_rule, matrix(WIDTH, 4 * WIDTH + 2 * HEADS) | NORM | DECAY),
    "based": (
        "based", {"feature_dim": FEATURES, "sliding_window": 0}, based, matrix(WIDTH, 2 * HEADS * FEATURES + WIDTH)),
    "mixture_of_memories": (
        "mixture_of_memories", {"num_memories": MEMORIES}, mixture_of_memories,
        matrix(WIDTH, 2 * WIDTH) | NORM | {"router.weight": (MEMORIES, WIDTH)}
        | {f"{name}.{key}": shape for name in [f"memories.{m}" for m in range(MEMORIES)] + ["shared"]
           for key, shape in MEMORY.items()}),
    "gated_delta_rule_convolution": (
        "gated_delta_rule", {"conv_size": 4}, gated_delta_rule,
        matrix(WIDTH, 4 * WIDTH + 2 * HEADS) | NORM | DECAY | {"convolution.weight": (3 * WIDTH, 1, 4)}),
}


def draw(generator, name, shape):
    if len(shape) > 1:
        return normal(generator, *shape, deviation=shape[-1] ** -0.5)
    return normal(generator, *shape, deviation=0.1, mean=1.0 if "norm" in name else -1.0)


def make(folder, seed, name):
    mixer, settings, function, shapes = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    weights = {key: draw(generator, key, shape).requires_grad_() for key, shape in sorted(shapes.items())}
    x = normal(generator, 1, LENGTH, WIDTH).requires_grad_()
    doutput = normal(generator, 1, LENGTH, WIDTH)
    output = function(weights, x)
    output.backward(doutput)
    tensors = {f"weights/{key}": value for key, value in weights.items()}
    tensors |= {f"gradients/{key}": value.grad for key, value in weights.items()}
    tensors |= {"input": x, "dinput": x.grad, "doutput": doutput, "output": output}
    facts = {
        "script": "Scripts/golden/make_linear_goldens.py", "seed": seed, "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0], "numpy": numpy.__version__, "safetensors": safetensors.__version__,
        "flash-linear-attention": fla.__version__,
        "mixer": {"type": mixer, "num_heads": HEADS} | settings,
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
    for seed, name in enumerate(CASES, start=101):
        make(folder, seed, name)


if __name__ == "__main__":
    main()
