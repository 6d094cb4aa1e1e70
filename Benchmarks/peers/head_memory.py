"""The most memory that cross-entropy over a large vocabulary takes beyond inputs and gradients."""
import torch
from torch.nn import functional as F


def kilobytes(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))


class Peer:
    modes = ["eager", "compiled"]

    def __init__(self, settings):
        rows, width, vocabulary = settings["rows"], settings["width"], settings["vocabulary"]
        self.hidden = torch.randn(rows, width).requires_grad_()
        self.weight = (torch.randn(vocabulary, width) * 0.05).requires_grad_()
        self.targets = torch.arange(rows) * 31 % vocabulary
        self.functions = {"eager": self.loss, "compiled": torch.compile(self.loss)}

    @staticmethod
    def loss(hidden, weight, targets):
        return F.cross_entropy(F.linear(hidden, weight), targets)

    def sample(self, mode):
        self.hidden.grad = self.weight.grad = None
        with open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")
        before = kilobytes("VmRSS:")
        self.functions[mode](self.hidden, self.weight, self.targets).backward()
        gradients = 4 * (self.hidden.numel() + self.weight.numel())
        return 1024 * (kilobytes("VmHWM:") - before) - gradients
