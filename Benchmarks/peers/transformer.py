"""Training steps of a byte-level transformer in PyTorch: pre-norm, rotary positions, SwiGLU, tied head, AdamW."""
import torch
from torch import nn
from torch.nn import functional as F

WIDTH, LAYERS, HEADS, HIDDEN, VOCABULARY, BATCH, LENGTH = 256, 6, 4, 704, 256, 8, 1024
HEAD_WIDTH = WIDTH // HEADS


def rotated(x, cosine, sine):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), dim=-1)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv_proj = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.o_proj = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x, cosine, sine):
        batch, length, _ = x.shape
        parts = self.qkv_proj(x).view(batch, length, 3, HEADS, HEAD_WIDTH).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        y = F.scaled_dot_product_attention(
            rotated(query, cosine, sine).to(value.dtype), rotated(key, cosine, sine).to(value.dtype), value, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, WIDTH))


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_up_proj = nn.Linear(WIDTH, 2 * HIDDEN, bias=False)
        self.down_proj = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x):
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.mixer = Attention()
        self.post_attention_layernorm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.mlp = FeedForward()

    def forward(self, x, cosine, sine):
        x = x + self.mixer(self.input_layernorm(x), cosine, sine)
        return x + self.mlp(self.post_attention_layernorm(x))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, WIDTH)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH, eps=1e-5)
        half = HEAD_WIDTH // 2
        frequency = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.outer(torch.arange(LENGTH, dtype=torch.float64), frequency)
        self.register_buffer("cosine", angle.cos().float(), persistent=False)
        self.register_buffer("sine", angle.sin().float(), persistent=False)

    def forward(self, tokens, targets):
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, self.cosine, self.sine)
        logits = F.linear(self.norm(x), self.embed_tokens.weight)
        return F.cross_entropy(logits.float().view(-1, VOCABULARY), targets.reshape(-1))


class Peer:
    modes = ["eager", "compiled"]

    def __init__(self, settings):
        self.half = settings["dtype"] == "bf16"
        self.start(Transformer())
        self.tokens = torch.randint(0, VOCABULARY, (BATCH, LENGTH))
        self.targets = torch.randint(0, VOCABULARY, (BATCH, LENGTH))

    def start(self, model):
        self.model = model
        # Matrices decay, norms do not.
        groups = [
            {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.01},
            {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, fused=True)
        self.forward = {"eager": model, "compiled": torch.compile(model)}

    def step(self, mode, tokens=None, targets=None):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            loss = self.forward[mode](self.tokens if tokens is None else tokens, self.targets if targets is None else targets)
        loss.backward()
        self.gradient = self.model.embed_tokens.weight.grad
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def results(self, mode, inputs):
        tokens, targets = inputs.pop("tokens").long(), inputs.pop("targets").long()
        weights = {name.removeprefix("model."): value for name, value in inputs.items()}
        self.model.load_state_dict(weights)
        self.optimizer.state.clear()
        losses = [self.step(mode, tokens, targets)]
        gradient = self.gradient
        losses += [self.step(mode, tokens, targets) for _ in range(2)]
        return {"losses": torch.tensor(losses), "gradient": gradient}
