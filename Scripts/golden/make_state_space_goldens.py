"""Writes the golden files of the state spaces (s4, s4d, s5, h3) into Tests/Goldens: what their authors' code answers.

Usage:
    git clone https://github.com/state-spaces/s4        # commit e757cef57d89e448c413de7325ed5601aceaac13
    git clone https://github.com/HazyResearch/H3        # commit 5c4d06b5795405170387c80998b58d76179a8a1a
    git clone https://github.com/lindermanlab/S5        # commit 3c18fdb6b06414da35e77b94b9cd855f6a95ef17
    python3 -m venv venv && venv/bin/pip install torch numpy scipy safetensors einops opt_einsum jax flax
    venv/bin/python Scripts/golden/make_state_space_goldens.py s4 H3 S5 [output folder, default Tests/Goldens]

Nothing of those repositories is copied: their modules are imported, given our parameters, and run in f64 on a processor.
Every random input is rounded to f32 first, and results are rounded to f32 once. Parameters have our names and shapes, so
gradients come in them too. What is whose:

- s4d: the authors' S4D module, whole (kernel, skip, GELU, gated output).
- h3: the authors' H3 module, whole; its shift is B = e_1 as in the paper, and ssm_k_D is part of the first tap.
- s5: the authors' discretize_zoh and apply_ssm; GELU and the output's gate are written here after the paper.
- s4: outputs of a dense recurrence written here after the paper's equation, in full complex states; the script demands that
  they agree with the authors' FFTConv (whose kernel comes from the generating function) to 1e-9, and then takes gradients
  from the recurrence, because the authors keep C in a form that depends on the length.
"""

import importlib
import json
import math
import sys
import types
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

BATCH, LENGTH, WIDTH, STATES = 2, 70, 6, 8
MODES = STATES // 2


def normal(generator, *shape, deviation=1.0):
    return (torch.randn(*shape, generator=generator) * deviation).double()


def stub(name, **members):
    module = types.ModuleType(name)
    for key, value in members.items():
        setattr(module, key, value)
    sys.modules[name] = module


def authors(folder, name):
    """A module of a checkout, without what another checkout left under the same names."""
    for loaded in [key for key in sys.modules if key == "src" or key.startswith("src.")]:
        del sys.modules[loaded]
    stub("pytorch_lightning")
    stub("pytorch_lightning.utilities", rank_zero_only=lambda body: body)
    if name.endswith("s4d"):
        stub("src")
        stub("src.models")
        stub("src.models.nn", DropoutNd=torch.nn.Dropout)
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def save(folder, name, source, inputs, parameters, run):
    """Runs `run(x, parameters)` with gradients and stores everything under our names."""
    leaves = {key: value.clone().requires_grad_() for key, value in parameters.items()}
    x = inputs["input"].clone().requires_grad_()
    output = run(x, leaves)
    names = list(leaves)
    found = torch.autograd.grad((output * inputs["doutput"]).sum(), [x] + [leaves[key] for key in names])
    write(folder, name, source, inputs, parameters, output, found[0], dict(zip(names, found[1:])))


def write(folder, name, source, inputs, parameters, output, dinput, gradients):
    tensors = inputs | {"output": output, "dinput": dinput}
    tensors |= {f"weights/{key}": value for key, value in parameters.items()}
    tensors |= {f"gradients/{key}": value for key, value in gradients.items()}
    stored = {key: value.detach().float().contiguous().clone() for key, value in tensors.items()}
    facts = {
        "script": "Scripts/golden/make_state_space_goldens.py",
        "source": source,
        "torch": torch.__version__.split("+")[0],
        "numpy": numpy.__version__,
    }
    path = folder / f"{name}.safetensors"
    save_file(stored, path, metadata={"fermata": json.dumps(facts, sort_keys=True)})
    print(f"{path.name}: {path.stat().st_size} bytes, {len(stored)} tensors")


def sequences(generator):
    shape = (BATCH, LENGTH, WIDTH)
    return {"input": normal(generator, *shape), "doutput": normal(generator, *shape)}


def diagonal(generator, channels):
    """Parameters of DiagonalSystem, under its names."""
    return {
        "kernel.log_dt": torch.log(torch.rand(channels, generator=generator) * 0.2 + 0.01).double(),
        "kernel.log_A_real": normal(generator, channels * MODES, deviation=0.3),
        "kernel.A_imag": normal(generator, channels * MODES, deviation=8.0),
        "kernel.C": normal(generator, channels, MODES, 2),
        "kernel.D": normal(generator, channels),
    }


def s4d(folder, checkout):
    generator = torch.Generator().manual_seed(11)
    parameters = diagonal(generator, WIDTH) | {
        "out_proj.weight": normal(generator, 2 * WIDTH, WIDTH, deviation=0.4),
        "out_proj.bias": normal(generator, 2 * WIDTH, deviation=0.1),
    }
    module = authors(checkout / "models/s4", "s4d").S4D(WIDTH, d_state=STATES, transposed=False).double()

    def run(x, p):
        theirs = {
            "D": p["kernel.D"],
            "kernel.C": p["kernel.C"],
            "kernel.log_dt": p["kernel.log_dt"],
            "kernel.log_A_real": p["kernel.log_A_real"].reshape(WIDTH, MODES),
            "kernel.A_imag": p["kernel.A_imag"].reshape(WIDTH, MODES),
            "output_linear.0.weight": p["out_proj.weight"].unsqueeze(2),
            "output_linear.0.bias": p["out_proj.bias"],
        }
        return torch.func.functional_call(module, theirs, (x,))[0]

    save(folder, "s4d", "state-spaces/s4 models/s4/s4d.py", sequences(generator), parameters, run)


def h3(folder, checkout):
    generator = torch.Generator().manual_seed(12)
    head_dim, taps = 2, STATES
    heads = WIDTH // head_dim
    parameters = diagonal(generator, heads) | {
        "in_proj.weight": normal(generator, 3 * WIDTH, WIDTH, deviation=0.4),
        "in_proj.bias": normal(generator, 3 * WIDTH, deviation=0.1),
        "shift.weight": normal(generator, WIDTH, 1, taps, deviation=0.5),
        "o_proj.weight": normal(generator, WIDTH, WIDTH, deviation=0.4),
        "o_proj.bias": normal(generator, WIDTH, deviation=0.1),
    }
    module = authors(checkout, "src.models.ssm.h3").H3(WIDTH, d_state=STATES, head_dim=head_dim, mode="diag").double()
    first = torch.zeros(WIDTH, taps, dtype=torch.float64)
    first[:, 0] = 1

    def run(x, p):
        # Our features lie head after head last, theirs first; their output's as ours.
        turn = lambda rows: rows.unflatten(0, (head_dim, heads)).transpose(0, 1).flatten(0, 1)
        q, k, v = (turn(rows) for rows in p["in_proj.weight"].split(WIDTH))
        qb, kb, vb = (turn(rows) for rows in p["in_proj.bias"].split(WIDTH))
        theirs = {
            "q_proj.weight": q, "q_proj.bias": qb, "k_proj.weight": k, "k_proj.bias": kb, "v_proj.weight": v,
            "v_proj.bias": vb, "ssm_k_D": torch.zeros(WIDTH, dtype=torch.float64), "ssm_k_kernel.kernel.B": first,
            "ssm_k_kernel.kernel.C": turn(p["shift.weight"].flip(2)).transpose(0, 1),
            "kernel.kernel.C": p["kernel.C"].unsqueeze(0),
            "kernel.kernel.B": torch.tensor([1.0, 0.0]).double().expand(heads, MODES, 2),
            "kernel.kernel.log_dt": p["kernel.log_dt"],
            "kernel.kernel.inv_A_real": p["kernel.log_A_real"].reshape(heads, MODES),
            "kernel.kernel.A_imag": p["kernel.A_imag"].reshape(heads, MODES), "D": p["kernel.D"],
            "output_linear.weight": p["o_proj.weight"], "output_linear.bias": p["o_proj.bias"],
        }
        return torch.func.functional_call(module, theirs, (x,))

    save(folder, "h3", "HazyResearch/H3 src/models/ssm/h3.py", sequences(generator), parameters, run)


def s4_recurrence(x, p):
    """x' = (diag(L) - P P*) x + B u by the trapezium rule, both halves of every conjugate pair, token by token."""

    def whole(values):
        half = torch.complex(values[..., 0], values[..., 1])
        return torch.cat((half, half.conj()), -1)

    shape = (WIDTH, MODES)
    real, imaginary = -p["log_A_real"].exp().reshape(shape), p["A_imag"].reshape(shape)
    eigenvalues = whole(torch.stack((real, imaginary), -1))
    low_rank, drive = (whole(p[name].reshape(*shape, 2)) for name in ("P", "B"))
    matrix = torch.diag_embed(eigenvalues) - low_rank.unsqueeze(2) * low_rank.conj().unsqueeze(1)
    half = p["log_dt"].exp().reshape(-1, 1, 1) / 2 * matrix
    one = torch.eye(STATES, dtype=half.dtype)
    transition = torch.linalg.solve(one - half, one + half)
    entry = torch.linalg.solve(one - half, (p["log_dt"].exp().unsqueeze(1) * drive).unsqueeze(2)).squeeze(2)
    state, outputs = torch.zeros(BATCH, WIDTH, STATES, dtype=half.dtype), []
    for t in range(LENGTH):
        state = torch.einsum("cnm,bcm->bcn", transition, state) + entry * x[:, t].unsqueeze(2)
        outputs.append((whole(p["C"]) * state).sum(2).real + p["D"] * x[:, t])
    return torch.stack(outputs, 1)


def s4(folder, checkout):
    generator = torch.Generator().manual_seed(13)
    start = diagonal(generator, WIDTH)
    parameters = {key.removeprefix("kernel."): value for key, value in start.items()} | {
        "P": normal(generator, WIDTH * STATES),
        "B": normal(generator, WIDTH * STATES),
        "out_proj.weight": normal(generator, 2 * WIDTH, WIDTH, deviation=0.4),
        "out_proj.bias": normal(generator, 2 * WIDTH, deviation=0.1),
    }
    inputs = sequences(generator)
    module = authors(checkout / "models/s4", "s4").FFTConv(
        WIDTH, l_max=LENGTH, activation=None, transposed=False, mode="dplr", d_state=STATES, backend="naive").double()
    kernel = module.kernel
    with torch.no_grad():
        kernel.inv_dt.copy_(parameters["log_dt"].reshape(kernel.inv_dt.shape))
        kernel.A_real.copy_(parameters["log_A_real"].reshape(WIDTH, MODES))
        kernel.A_imag.copy_(-parameters["A_imag"].reshape(WIDTH, MODES))
        kernel.P.copy_(parameters["P"].reshape(1, WIDTH, MODES, 2))
        kernel.B.copy_(parameters["B"].reshape(1, WIDTH, MODES, 2))
        kernel.C.copy_(parameters["C"].unsqueeze(0))
        module.D.copy_(parameters["D"].unsqueeze(0))
        theirs = module(inputs["input"])[0]
    difference = (theirs - s4_recurrence(inputs["input"], parameters)).abs().max().item()
    print(f"s4: the authors' outputs and the recurrence's differ by at most {difference:.1e}")
    assert difference < 1e-9 * theirs.abs().max().item()

    def run(x, p):
        mixed = F.linear(F.gelu(s4_recurrence(x, p)), p["out_proj.weight"], p["out_proj.bias"])
        return F.glu(mixed, -1)

    save(folder, "s4", "state-spaces/s4 models/s4/s4.py", inputs, parameters, run)


def s5(folder, checkout):
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.numpy.DeviceArray = jax.Array  # the name in the versions of their time
    ssm = authors(checkout, "s5.ssm")
    generator = torch.Generator().manual_seed(14)
    inputs = sequences(generator)
    parameters = {
        "Lambda_re": -torch.rand(MODES, generator=generator).double() - 0.1,
        "Lambda_im": normal(generator, MODES, deviation=8.0),
        "log_step": torch.log(torch.rand(MODES, generator=generator) * 0.2 + 0.01).double(),
        "B": normal(generator, MODES, WIDTH, 2, deviation=0.4),
        "C": normal(generator, WIDTH, MODES, 2, deviation=0.4),
        "D": normal(generator, WIDTH),
        "gate_proj.weight": normal(generator, WIDTH, WIDTH, deviation=0.4),
    }

    def run(x, p):
        eigenvalues = p["Lambda_re"] + 1j * p["Lambda_im"]
        b, c = (p[name][..., 0] + 1j * p[name][..., 1] for name in ("B", "C"))
        decay, entry = ssm.discretize_zoh(eigenvalues, b, jax.numpy.exp(p["log_step"]))
        mixed = jax.vmap(lambda row: ssm.apply_ssm(decay, entry, c, row, True, False))(x) + p["D"] * x
        g = jax.nn.gelu(mixed, approximate=False)
        return g * jax.nn.sigmoid(g @ p["gate_proj.weight"].T)

    def to_jax(tensors):
        return {key: jax.numpy.asarray(value.numpy()) for key, value in tensors.items()}

    given, p = to_jax(inputs), to_jax(parameters)
    output = run(given["input"], p)
    dinput, gradients = jax.grad(lambda x, p: (run(x, p) * given["doutput"]).sum(), (0, 1))(given["input"], p)
    back = lambda value: torch.from_numpy(numpy.array(value))
    write(folder, "s5", "lindermanlab/S5 s5/ssm.py", inputs, parameters, back(output), back(dinput),
          {key: back(value) for key, value in gradients.items()})


if __name__ == "__main__":
    checkouts = [Path(argument).resolve() for argument in sys.argv[1:4]]
    target = Path(sys.argv[4] if len(sys.argv) > 4 else Path(__file__).parents[2] / "Tests/Goldens")
    s4d(target, checkouts[0])
    s4(target, checkouts[0])
    h3(target, checkouts[1])
    s5(target, checkouts[2])
