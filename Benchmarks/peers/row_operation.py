"""Operations bound by memory, into fresh memory or into memory that exists, eager and compiled."""
import torch
from torch.nn import functional as F

BATCH, LENGTH, WIDTH, HEADS = 64, 1024, 512, 8


def angles():
    half = WIDTH // HEADS // 2
    frequency = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(LENGTH, dtype=torch.float64), frequency)[:, None, :]
    return angle.cos().float(), angle.sin().float()


COSINE, SINE = angles()


def rms_norm(x):
    return F.rms_norm(x, (WIDTH,), eps=1e-5)


def softmax(x):
    return torch.softmax(x, dim=-1)


def swiglu(x):
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


def rotary(x):
    a, b = x.view(x.shape[0], x.shape[1], HEADS, WIDTH // HEADS).chunk(2, dim=-1)
    return torch.cat((a * COSINE - b * SINE, b * COSINE + a * SINE), dim=-1)


# The best eager forms that write into `out` without another copy, where PyTorch has one.
def swiglu_into(x, out):
    gate, up = x.chunk(2, dim=-1)
    torch.mul(F.silu(gate), up, out=out)


INTO = {"softmax": lambda x, out: torch.softmax(x, dim=-1, out=out), "swiglu": swiglu_into}
OPERATIONS = {"rms_norm": rms_norm, "softmax": softmax, "swiglu": swiglu, "rotary": rotary}


class Peer:
    modes = ["eager", "compiled"]

    def __init__(self, settings):
        name = settings["operation"]
        operation = OPERATIONS[name]

        def into(x, out):
            out.copy_(operation(x).view(out.shape))

        self.existing = settings["existing"]
        function = into if self.existing else operation
        eager = INTO.get(name, function) if self.existing else function
        self.functions = {"eager": eager, "compiled": torch.compile(function)}
        self.x = torch.randn(BATCH, LENGTH, WIDTH * (2 if name == "swiglu" else 1))
        self.out = torch.empty(BATCH, LENGTH, WIDTH)

    @torch.no_grad()
    def step(self, mode):
        if self.existing:
            self.functions[mode](self.x, self.out)
        else:
            self.functions[mode](self.x)

    @torch.no_grad()
    def results(self, mode, inputs):
        x = inputs["x"]
        if not self.existing:
            return {"y": self.functions[mode](x).view(x.shape[0], LENGTH, WIDTH)}
        out = torch.empty(x.shape[0], LENGTH, WIDTH)
        self.functions[mode](x, out)
        return {"y": out}
