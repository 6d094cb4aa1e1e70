"""Causal attention forwards and backwards by PyTorch's scaled_dot_product_attention."""
import torch
from torch.nn import functional as F


class Peer:
    modes = ["eager"]

    def __init__(self, settings):
        length, dtype = settings["length"], getattr(torch, settings["dtype"])
        shape = (1, 8, length, 64)
        self.inputs = [torch.randn(shape, dtype=dtype).requires_grad_() for _ in range(3)]
        self.doutput = torch.randn(shape, dtype=dtype)

    def step(self, mode):
        for x in self.inputs:
            x.grad = None
        y = F.scaled_dot_product_attention(*self.inputs, is_causal=True)
        y.backward(self.doutput)
        return y

    def results(self, mode, inputs):
        # Ours are (batch, length, heads, width).
        parts = {name: x.transpose(1, 2).contiguous() for name, x in inputs.items()}
        self.doutput = parts["doutput"]
        self.inputs = [parts[name].requires_grad_() for name in ("query", "key", "value")]
        y = self.step(mode)
        found = {"output": y, **{"d" + name: x.grad for name, x in zip(("query", "key", "value"), self.inputs)}}
        return {name: x.transpose(1, 2) for name, x in found.items()}
