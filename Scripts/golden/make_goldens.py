"""Writes the golden files of Tests/Goldens: what PyTorch answers, so that our own answers can be held against it.

Usage:
    python3 -m venv venv && venv/bin/pip install torch numpy safetensors
    venv/bin/python Scripts/golden/make_goldens.py [output folder, default Tests/Goldens]

Made with Python 3.11, torch 2.15, safetensors and numpy as named in each file's metadata. Seeds: 1 transformer,
2 lstm, 3 gated_linear_attention, 4 mamba2_scan, 5 attention. The same versions on the same kind of processor write
the same bytes again; elsewhere a last bit may differ.

Every random input is rounded to f32 before it is used, everything is then computed in f64, and results are rounded to
f32 once at the end. So a difference seen by a test is the tested code's rounding and not PyTorch's. For the two
models the script also runs the training in f32 and prints how far the losses drift: the scale for tolerances.

Axes are (batch, length, heads, width); states are (batch, heads, key width, value width).
"""

import json
import math
import platform
import sys
from pathlib import Path

import numpy
import safetensors
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

VOCABULARY, WIDTH, LAYERS, HIDDEN, EPSILON = 64, 32, 2, 48, 1e-5
HEADS, KEY_VALUE_HEADS, ROTARY_BASE = 4, 2, 10000.0
STEPS, BATCH, LENGTH = 20, 2, 24


class Random:
    """Random tensors whose values are exact in f32, handed out as f64."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape, deviation=1.0, mean=0.0):
        return (torch.randn(*shape, generator=self.generator) * deviation + mean).double()

    def integers(self, limit, *shape):
        return torch.randint(limit, shape, generator=self.generator)

    def chance(self, probability, *shape):
        return torch.rand(*shape, generator=self.generator) < probability


def save(folder, name, seed, tensors, **facts):
    """Writes floating tensors as f32 and the others as they are; the metadata is one JSON string."""
    stored = {
        key: (value.detach().float() if value.is_floating_point() else value).contiguous().clone()
        for key, value in tensors.items()
    }
    facts |= {
        "script": "Scripts/golden/make_goldens.py",
        "seed": seed,
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "numpy": numpy.__version__,
        "safetensors": safetensors.__version__,
    }
    path = folder / f"{name}.safetensors"
    save_file(stored, path, metadata={"fermata": json.dumps(facts, sort_keys=True)})
    print(f"{path.name}: {path.stat().st_size} bytes, {len(stored)} tensors")


# --- Models -----------------------------------------------------------------------------------------------------


def rotate(x, base=ROTARY_BASE):
    """Rotary positions (Su et al. 2021) from 0 on, pairs (i, i + width/2), for x (batch, heads, length, width)."""
    length, half = x.shape[-2], x.shape[-1] // 2
    frequency = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency)
    cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    low, high = x[..., :half], x[..., half:]
    return torch.cat((low * cosine - high * sine, high * cosine + low * sine), -1)


def attention_mixer(weights, prefix, x, heads=HEADS, key_value_heads=KEY_VALUE_HEADS):
    """Causal grouped-query attention with rotary queries and keys; scale 1 / sqrt(head width) is PyTorch's default."""

    def project(letter, count):
        flat = F.linear(x, weights[f"{prefix}.self_attn.{letter}_proj.weight"])
        return flat.unflatten(-1, (count, -1)).transpose(1, 2)

    query, key, value = project("q", heads), project("k", key_value_heads), project("v", key_value_heads)
    mixed = F.scaled_dot_product_attention(rotate(query), rotate(key), value, is_causal=True, enable_gqa=True)
    return F.linear(mixed.transpose(1, 2).flatten(2), weights[f"{prefix}.self_attn.o_proj.weight"])


def lstm_mixer(weights, prefix, x):
    """torch.nn.LSTM from a zero state, gates in PyTorch's order (i, f, g, o); its second bias stays zero."""
    mixer = f"{prefix}.mixer"
    bias = weights[f"{mixer}.bias"]
    parameters = {
        "weight_ih_l0": weights[f"{mixer}.weight_ih"],
        "weight_hh_l0": weights[f"{mixer}.weight_hh"],
        "bias_ih_l0": bias,
        "bias_hh_l0": torch.zeros_like(bias),
    }
    module = torch.nn.LSTM(WIDTH, WIDTH, batch_first=True, dtype=x.dtype)
    hidden, _ = torch.func.functional_call(module, parameters, (x,))
    return F.linear(hidden, weights[f"{mixer}.o_proj.weight"])


def model_logits(weights, mixer, ids, layers=LAYERS, epsilon=EPSILON):
    def norm(x, name):
        return F.rms_norm(x, x.shape[-1:], weights[f"{name}.weight"], epsilon)

    x = F.embedding(ids, weights["model.embed_tokens.weight"])
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        x = x + mixer(weights, prefix, norm(x, f"{prefix}.input_layernorm"))
        y = norm(x, f"{prefix}.post_attention_layernorm")
        gate = F.linear(y, weights[f"{prefix}.mlp.gate_proj.weight"])
        up = F.linear(y, weights[f"{prefix}.mlp.up_proj.weight"])
        x = x + F.linear(F.silu(gate) * up, weights[f"{prefix}.mlp.down_proj.weight"])
    return F.linear(norm(x, "model.norm"), weights["lm_head.weight"])


def initial_weights(random, mixer_shapes):
    """Wide enough (deviation 1 / sqrt(inputs)) that attention is far from uniform and gates from one half."""
    shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        shapes[f"{prefix}.input_layernorm.weight"] = (WIDTH,)
        shapes |= {f"{prefix}.{name}": shape for name, shape in mixer_shapes.items()}
        shapes[f"{prefix}.post_attention_layernorm.weight"] = (WIDTH,)
        shapes[f"{prefix}.mlp.gate_proj.weight"] = (HIDDEN, WIDTH)
        shapes[f"{prefix}.mlp.up_proj.weight"] = (HIDDEN, WIDTH)
        shapes[f"{prefix}.mlp.down_proj.weight"] = (WIDTH, HIDDEN)
    shapes["model.norm.weight"] = (WIDTH,)
    shapes["lm_head.weight"] = (VOCABULARY, WIDTH)

    def draw(name, shape):
        if name.endswith("norm.weight"):
            return random.normal(*shape, deviation=0.1, mean=1.0)
        return random.normal(*shape, deviation=0.2 if len(shape) == 1 else shape[1] ** -0.5)

    return {name: draw(name, shape) for name, shape in shapes.items()}


def token_batches(random):
    """Sequences with something to learn: the next token follows a fixed permutation, one time in eight it is random."""
    successor = torch.randperm(VOCABULARY, generator=random.generator)
    tokens = random.integers(VOCABULARY, STEPS, BATCH, LENGTH + 1)
    jump = random.chance(0.125, STEPS, BATCH, LENGTH + 1)
    for position in range(1, LENGTH + 1):
        follows = successor[tokens[..., position - 1]]
        tokens[..., position] = torch.where(jump[..., position], tokens[..., position], follows)
    return tokens[..., :-1], tokens[..., 1:]


def train(initial, mixer, ids, targets, dtype):
    """20 AdamW steps. Returns first logits, first gradients, the losses before each step, and the final weights."""
    weights = {name: value.to(dtype, copy=True).requires_grad_() for name, value in initial.items()}
    groups = [
        {"params": [w for w in weights.values() if w.ndim >= 2], "weight_decay": 0.1},
        {"params": [w for w in weights.values() if w.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-8)
    first_logits, first_gradients, losses = None, None, []
    for step in range(STEPS):
        logits = model_logits(weights, mixer, ids[step])
        loss = F.cross_entropy(logits.flatten(0, 1), targets[step].flatten())
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            first_logits = logits.detach()
            first_gradients = {name: w.grad.clone() for name, w in weights.items()}
        losses.append(loss.detach())
        optimizer.step()
    return first_logits, first_gradients, torch.stack(losses), weights


def make_model(folder, name, seed, mixer, mixer_shapes, kept, **facts):
    random = Random(seed)
    initial = initial_weights(random, mixer_shapes)
    ids, targets = token_batches(random)
    logits, gradients, losses, final = train(initial, mixer, ids, targets, torch.float64)
    drift = (train(initial, mixer, ids, targets, torch.float32)[2] - losses).abs().max().item()
    print(f"{name}: loss {losses[0]:.4f} to {losses[-1]:.4f}; the same run in f32 drifts by at most {drift:.1e}")
    tensors = {f"weights/{key}": value for key, value in initial.items()}
    tensors |= {"batch/input_ids": ids.int(), "batch/targets": targets.int(), "logits": logits, "losses": losses}
    tensors |= {f"gradients/{key}": value for key, value in gradients.items()}
    tensors |= {f"final/{key}": final[key] for key in kept}
    save(folder, name, seed, tensors, rms_norm_epsilon=EPSILON, learning_rate=1e-2, betas=[0.9, 0.95],
         adam_epsilon=1e-8, weight_decay=0.1, **facts)


def make_transformer(folder):
    key_value_width = WIDTH // HEADS * KEY_VALUE_HEADS
    rows = {"q": WIDTH, "k": key_value_width, "v": key_value_width, "o": WIDTH}
    shapes = {f"self_attn.{letter}_proj.weight": (count, WIDTH) for letter, count in rows.items()}
    kept = ("model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight", "model.norm.weight")
    make_model(folder, "transformer", 1, attention_mixer, shapes, kept,
               heads=HEADS, key_value_heads=KEY_VALUE_HEADS, rotary_base=ROTARY_BASE)


def make_lstm(folder):
    shapes = {
        "mixer.weight_ih": (4 * WIDTH, WIDTH),
        "mixer.weight_hh": (4 * WIDTH, WIDTH),
        "mixer.bias": (4 * WIDTH,),
        "mixer.o_proj.weight": (WIDTH, WIDTH),
    }
    kept = ("model.embed_tokens.weight", "model.layers.0.mixer.weight_hh", "model.layers.1.mixer.bias")
    make_model(folder, "lstm", 2, lstm_mixer, shapes, kept)


# --- Scans ------------------------------------------------------------------------------------------------------


def gated_scan(query, key, value, gate, state, scale):
    """S_t = diag(exp(g_t)) S_{t-1} + k_t^T v_t, o_t = scale q_t S_t, one token at a time.

    gate is (batch, length, heads, key width), or (batch, length, heads, 1) for one decay per head.
    """
    outputs = []
    for t in range(query.shape[1]):
        state = gate[:, t].exp()[..., None] * state + key[:, t, :, :, None] * value[:, t, :, None, :]
        outputs.append(scale * (query[:, t, :, :, None] * state).sum(-2))
    return torch.stack(outputs, 1), state


def make_scan(folder, file_name, seed, vector_gate, scale):
    random = Random(seed)
    batch, length, heads, key_width, value_width = 1, 70, 2, 8, 12
    inputs = {
        "query": random.normal(batch, length, heads, key_width),
        "key": random.normal(batch, length, heads, key_width),
        "value": random.normal(batch, length, heads, value_width),
        "initial_state": random.normal(batch, heads, key_width, value_width),
    }
    if vector_gate:  # logs of sigmoids; the features' memories run from short to longer than the sequence
        gate = F.logsigmoid(random.normal(batch, length, heads, key_width) + torch.linspace(1, 6, key_width))
    else:  # minus a positive step times the head's rate, as in Mamba-2
        gate = -F.softplus(random.normal(batch, length, heads)) * torch.tensor([0.05, 1.5])
    gate[:, 33, 1] = -60.0  # head 1 is all but wiped out inside a chunk: dividing by decays would ruin it in f32
    inputs["gate"] = gate.float().double()
    inputs = {name: tensor.requires_grad_() for name, tensor in inputs.items()}
    doutput = random.normal(batch, length, heads, value_width)
    dfinal_state = random.normal(batch, heads, key_width, value_width)

    gate = inputs["gate"] if vector_gate else inputs["gate"][..., None]
    query, key, value, initial_state = (inputs[name] for name in ("query", "key", "value", "initial_state"))
    output, final_state = gated_scan(query, key, value, gate, initial_state, scale)
    torch.autograd.backward((output, final_state), (doutput, dfinal_state))
    tensors = inputs | {"doutput": doutput, "dfinal_state": dfinal_state, "output": output, "final_state": final_state}
    tensors |= {f"d{name}": tensor.grad for name, tensor in inputs.items()}
    save(folder, file_name, seed, tensors, scale=scale, vector_gate=vector_gate)


# --- Attention --------------------------------------------------------------------------------------------------


def make_attention(folder):
    random = Random(5)
    heads, groups, length, context, width = 4, 2, 20, 13, 8
    query = random.normal(1, length, heads, width)
    doutput = random.normal(1, length, heads, width)
    own = [random.normal(1, length, groups, width) for _ in range(2)]
    other = [random.normal(1, context, groups, width) for _ in range(2)]
    documents = (torch.arange(length) >= 9).int()

    i, j = torch.arange(length)[:, None], torch.arange(length)[None, :]
    causal, near = j <= i, j > i - 7
    cases = {
        "causal": (own, causal),
        "window": (own, causal & near),
        "window_sinks": (own, causal & (near | (j < 2))),
        "documents": (own, causal & (documents[:, None] == documents[None, :])),
        "prefix": (own, causal | (j < 5)),
        "cross": (other, torch.ones(length, context, dtype=torch.bool)),
    }
    tensors = {"query": query, "key": own[0], "value": own[1], "context_key": other[0], "context_value": other[1],
               "doutput": doutput, "documents": documents}
    for name, ((key, value), mask) in cases.items():
        q, k, v = (x.clone().requires_grad_() for x in (query, key, value))
        heads_first = [x.transpose(1, 2) for x in (q, k, v)]
        output = F.scaled_dot_product_attention(*heads_first, attn_mask=mask, enable_gqa=True).transpose(1, 2)
        output.backward(doutput)
        repeated = heads_first[1].repeat_interleave(heads // groups, 1)
        scores = heads_first[0] @ repeated.transpose(-1, -2) / math.sqrt(width)
        statistics = scores.masked_fill(~mask, -math.inf).logsumexp(-1)
        tensors |= {f"{name}/mask": mask.to(torch.uint8), f"{name}/output": output, f"{name}/log_sum_exp": statistics,
                    f"{name}/dquery": q.grad, f"{name}/dkey": k.grad, f"{name}/dvalue": v.grad}
    save(folder, "attention", 5, tensors, scale=1 / math.sqrt(width), window=7, sinks=2, prefix=5)


def main():
    torch.set_num_threads(1)
    root = Path(__file__).resolve().parents[2]
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "Tests" / "Goldens"
    folder.mkdir(parents=True, exist_ok=True)
    make_transformer(folder)
    make_lstm(folder)
    make_scan(folder, "gated_linear_attention", 3, vector_gate=True, scale=1 / math.sqrt(8))
    make_scan(folder, "mamba2_scan", 4, vector_gate=False, scale=1.0)
    make_attention(folder)


if __name__ == "__main__":
    main()
