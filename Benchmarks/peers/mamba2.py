"""Training steps of Hugging Face's Mamba-2: width 256, 6 layers, 8 heads of 64, state 64."""
import torch
from transformers import Mamba2Config, Mamba2ForCausalLM


class Peer:
    modes = ["eager"]

    def __init__(self, settings):
        config = Mamba2Config(
            vocab_size=256, hidden_size=256, num_hidden_layers=6, state_size=64, head_dim=64, num_heads=8, expand=2,
            n_groups=1, chunk_size=64, tie_word_embeddings=True)
        self.model = Mamba2ForCausalLM(config).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
        self.tokens = torch.randint(0, 256, (settings["batch"], settings["length"]))

    def step(self, mode):
        self.model(input_ids=self.tokens, labels=self.tokens, use_cache=False).loss.backward()
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
