"""Hugging Face's Mamba and Mamba-2: width 256, 6 layers; training steps, or a forward pass over a prompt."""
import torch
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM


def made(kind):
    sizes = {"vocab_size": 256, "hidden_size": 256, "num_hidden_layers": 6, "expand": 2, "tie_word_embeddings": True}
    if kind == "mamba":
        # Its best way on a processor: the parallel scan of the package mambapy, which it uses in training.
        return MambaForCausalLM(MambaConfig(state_size=16, use_mambapy=True, **sizes))
    return Mamba2ForCausalLM(
        Mamba2Config(state_size=64, head_dim=64, num_heads=8, n_groups=1, chunk_size=64, **sizes))


class Peer:
    modes = ["eager"]

    def __init__(self, settings):
        self.half, self.prefills = settings["dtype"] == "bf16", settings.get("prefill", False)
        self.model = made(settings["kind"]).train(not self.prefills)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
        self.tokens = torch.randint(0, 256, (settings["batch"], settings["length"]))

    def step(self, mode):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            if self.prefills:
                with torch.no_grad():
                    self.model(input_ids=self.tokens)
                return
            loss = self.model(input_ids=self.tokens, labels=self.tokens, use_cache=False).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def results(self, mode, inputs):
        x, doutput = inputs.pop("x").requires_grad_(), inputs.pop("doutput")
        mixer = self.model.backbone.layers[0].mixer
        with torch.no_grad():
            for name, value in mixer.named_parameters():
                value.copy_(inputs[name].view_as(value))
        y = mixer(x)
        y.backward(doutput)
        self.optimizer.zero_grad(set_to_none=True)
        return {"output": y, "dx": x.grad}
