"""Small random models of published families and what transformers makes of them; Tests/Goldens/README.md says what is in them.

    python3 -m venv venv && venv/bin/pip install torch transformers safetensors
    venv/bin/python Scripts/golden/make_families.py
"""

import json
import os
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file

OUTPUT = os.path.join(os.path.dirname(__file__), "..", "..", "Tests", "Goldens", "families")
SMALL = dict(vocab_size=41, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)


def rope(kind, **settings):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=10000.0, **settings))


# name: (configuration, class, settings, length, padding, name of the case whose weights it shares)
CASES = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", dict(), 30, None, None),
    "llama_padded_left": ("LlamaConfig", "LlamaForCausalLM", dict(), 19, "left", "llama"),
    "llama_padded_right": ("LlamaConfig", "LlamaForCausalLM", dict(), 19, "right", "llama"),
    "llama_bias_tied": ("LlamaConfig", "LlamaForCausalLM",
                        dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=6, hidden_act="gelu",
                             num_key_value_heads=1), 21, None, None),
    "llama_linear": ("LlamaConfig", "LlamaForCausalLM",
                     dict(max_position_embeddings=32, **rope("linear", factor=4.0)), 90, None, "llama"),
    "llama_dynamic": ("LlamaConfig", "LlamaForCausalLM",
                      dict(max_position_embeddings=32, **rope("dynamic", factor=2.0)), 90, None, "llama"),
    "llama_dynamic_short": ("LlamaConfig", "LlamaForCausalLM",
                            dict(max_position_embeddings=32, **rope("dynamic", factor=2.0)), 20, None, "llama"),
    "llama_yarn": ("LlamaConfig", "LlamaForCausalLM",
                   dict(max_position_embeddings=96, **rope("yarn", factor=3.0, original_max_position_embeddings=32,
                                                           beta_fast=4.0, beta_slow=0.5)), 90, None, "llama"),
    "llama_yarn_mscale": ("LlamaConfig", "LlamaForCausalLM",
                          dict(max_position_embeddings=96,
                               **rope("yarn", factor=3.0, original_max_position_embeddings=32, mscale=0.7,
                                      mscale_all_dim=1.3, truncate=False)), 90, None, "llama"),
    "llama_longrope": ("LlamaConfig", "LlamaForCausalLM",
                       dict(max_position_embeddings=96, **rope("longrope", original_max_position_embeddings=32,
                                                               short_factor=[1.1, 1.3], long_factor=[2.0, 3.5])),
                       90, None, "llama"),
    "llama_longrope_short": ("LlamaConfig", "LlamaForCausalLM",
                             dict(max_position_embeddings=96, **rope("longrope", original_max_position_embeddings=32,
                                                                     short_factor=[1.1, 1.3], long_factor=[2.0, 3.5])),
                             20, None, "llama"),
    "llama_llama3": ("LlamaConfig", "LlamaForCausalLM",
                     dict(max_position_embeddings=96, head_dim=12,
                          **rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                 original_max_position_embeddings=32)), 90, None, None),
    "llama_inner": ("LlamaConfig", "LlamaModel", dict(), 13, None, None),
    "mistral": ("MistralConfig", "MistralForCausalLM", dict(sliding_window=7), 30, None, None),
    "mistral_padded_left": ("MistralConfig", "MistralForCausalLM", dict(sliding_window=7), 19, "left", "mistral"),
    "mistral_full": ("MistralConfig", "MistralForCausalLM", dict(sliding_window=None, head_dim=6), 20, None, None),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM",
              dict(use_sliding_window=True, sliding_window=5, max_window_layers=1), 30, None, None),
    "qwen2_tied": ("Qwen2Config", "Qwen2ForCausalLM", dict(tie_word_embeddings=True), 20, None, None),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM",
              dict(head_dim=6, attention_bias=True, use_sliding_window=True, sliding_window=5, max_window_layers=1),
              30, None, None),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM",
               dict(head_dim=6, sliding_window=7, query_pre_attn_scalar=5, attn_logit_softcapping=2.0,
                    final_logit_softcapping=3.0), 30, None, None),
    "gemma2_padded_right": ("Gemma2Config", "Gemma2ForCausalLM",
                            dict(head_dim=6, sliding_window=7, query_pre_attn_scalar=5, attn_logit_softcapping=2.0,
                                 final_logit_softcapping=3.0), 19, "right", "gemma2"),
    "gemma2_uncapped": ("Gemma2Config", "Gemma2ForCausalLM",
                        dict(head_dim=6, sliding_window=7, attn_logit_softcapping=None, final_logit_softcapping=None),
                        20, None, "gemma2"),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel",
             dict(n_embd=16, n_layer=2, n_head=4, n_positions=64, scale_attn_by_inverse_layer_idx=True), 30, None, None),
    "gpt2_padded_left": ("GPT2Config", "GPT2LMHeadModel",
                         dict(n_embd=16, n_layer=2, n_head=4, n_positions=64, scale_attn_by_inverse_layer_idx=True),
                         19, "left", "gpt2"),
    "gpt2_inner": ("GPT2Config", "GPT2Model",
                   dict(n_embd=16, n_layer=2, n_head=4, n_positions=64, n_inner=20, activation_function="relu",
                        scale_attn_weights=False), 13, None, None),
    "bert": ("BertConfig", "BertModel", dict(type_vocab_size=2), 21, "right", None),
    "bert_masked_lm": ("BertConfig", "BertForMaskedLM", dict(hidden_act="gelu_new"), 21, "left", None),
    "bart": ("BartConfig", "BartForConditionalGeneration",
             dict(d_model=16, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=24, decoder_ffn_dim=20,
                  encoder_attention_heads=4, decoder_attention_heads=2, scale_embedding=True,
                  decoder_start_token_id=2, forced_eos_token_id=2), 17, "right", None),
    "mamba": ("MambaConfig", "MambaForCausalLM", dict(state_size=5, time_step_rank=3), 30, None, None),
    "mamba_padded_left": ("MambaConfig", "MambaForCausalLM", dict(state_size=5, time_step_rank=3), 19, "left", "mamba"),
    "mamba_padded_right": ("MambaConfig", "MambaForCausalLM", dict(state_size=5, time_step_rank=3), 19, "right", "mamba"),
    "mamba_inner": ("MambaConfig", "MambaModel",
                    dict(state_size=4, expand=1, conv_kernel=2, use_bias=True, use_conv_bias=False), 13, None, None),
    "mamba_untied": ("MambaConfig", "MambaForCausalLM", dict(state_size=3, tie_word_embeddings=False), 13, None, None),
    "mamba2": ("Mamba2Config", "Mamba2ForCausalLM",
               dict(num_heads=4, head_dim=8, state_size=6, n_groups=2, chunk_size=8), 30, None, None),
    "mamba2_padded_left": ("Mamba2Config", "Mamba2ForCausalLM",
                           dict(num_heads=4, head_dim=8, state_size=6, n_groups=2, chunk_size=8), 19, "left", "mamba2"),
    "mamba2_padded_right": ("Mamba2Config", "Mamba2ForCausalLM",
                            dict(num_heads=4, head_dim=8, state_size=6, n_groups=2, chunk_size=8), 19, "right", "mamba2"),
    "mamba2_limits": ("Mamba2Config", "Mamba2ForCausalLM",
                      dict(num_heads=4, head_dim=8, state_size=5, n_groups=1, conv_kernel=2, time_step_limit=[0.4, 0.8],
                           tie_word_embeddings=True, use_bias=True, use_conv_bias=False), 21, None, None),
    "mamba2_inner": ("Mamba2Config", "Mamba2Model", dict(num_heads=2, head_dim=16, state_size=5, n_groups=1), 13, None, None),
}


def randomise(model, generator):
    """Weights that make every part count."""
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if value.dim() >= 2:
            value.data = noise * (0.8 / value.shape[-1] ** 0.5 if "embed" not in name and "wte" not in name else 0.6)
        elif "norm" in name.lower() or ".ln_" in name:
            value.data = value.data + 0.2 * noise
        else:
            value.data = 0.2 * noise
    for name, value in model.named_buffers():
        if name == "final_logits_bias":
            value.data = 0.3 * torch.randn(value.shape, generator=generator)


def inputs(name, length, padding, config, generator):
    tokens = torch.randint(3, 41, (2, length), generator=generator)
    result = {"input_ids": tokens}
    if padding:
        mask = torch.ones_like(tokens)
        hidden = slice(0, 5) if padding == "left" else slice(length - 5, length)
        mask[1, hidden] = 0
        tokens[1, hidden] = config.pad_token_id or 0
        result["attention_mask"] = mask
    if name == "bert":
        result["token_type_ids"] = torch.randint(0, 2, tokens.shape, generator=generator)
    if name == "bart":
        result["decoder_input_ids"] = torch.randint(3, 41, (2, 9), generator=generator)
    return result


def continuations(model, given):
    """What generate writes for each row alone, greedily and with beams of several settings; one row, ended by padding."""
    settings = {
        "greedy": dict(num_beams=1),
        "beams": dict(num_beams=4),
        "beams_long": dict(num_beams=3, length_penalty=2.0, early_stopping=True, min_length=6),
        "beams_fresh": dict(num_beams=2, length_penalty=0.5, no_repeat_ngram_size=2, forced_bos_token_id=7),
    }
    found = {}
    for label, options in settings.items():
        for row in range(2):
            keep = given["attention_mask"][row].bool()
            tokens = given["input_ids"][row][keep][None]
            output = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_length=16, do_sample=False, **options)
            found[f"generated/{label}/{row}"] = output[0].to(torch.int32).contiguous()
    return found


def named(value):
    """Infinities as transformers writes them into config.json."""
    if isinstance(value, dict):
        return {key: named(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [named(item) for item in value]
    return {"__float__": "Infinity"} if value == float("inf") else value


def main():
    os.makedirs(OUTPUT, exist_ok=True)
    made = {}
    for index, (name, (config_class, model_class, settings, length, padding, shared)) in enumerate(CASES.items()):
        # The seed of BART is one whose greedy and beam texts differ.
        generator = torch.Generator().manual_seed(217 if name == "bart" else 100 + index)
        common = {k: v for k, v in SMALL.items() if not (config_class == "GPT2Config" and k.startswith(("hidden", "inter", "num_", "max_")))
                  and not (config_class == "BartConfig" and k.startswith(("hidden", "inter", "num_")))
                  and not (config_class == "BertConfig" and k == "num_key_value_heads")
                  and not (config_class.startswith("Mamba") and k.startswith(("inter", "num_attention", "num_key", "max_")))}
        config = getattr(transformers, config_class)(**{**common, **settings})
        config.architectures = [model_class]
        model = getattr(transformers, model_class)(config).eval().float()
        if shared:
            model.load_state_dict(made[shared].state_dict())
            model.tie_weights()
        else:
            randomise(model, generator)
            model.tie_weights()
        made[name] = model
        given = inputs(name, length, padding, config, generator)
        with torch.no_grad():
            if name == "bert_masked_lm":
                outputs = model.bert(**given)
            else:
                outputs = model(**given)
        values = outputs.logits if hasattr(outputs, "logits") else outputs.last_hidden_state
        key = "logits" if hasattr(outputs, "logits") else "last_hidden_state"
        tensors = {k: v.to(torch.int32) for k, v in given.items()}
        tensors[key] = values.contiguous()
        if not shared:
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                for parameter, value in load_file(os.path.join(folder, "model.safetensors")).items():
                    tensors["weights/" + parameter] = value.clone()
        if name == "bart":
            tensors.update(continuations(model, given))
        metadata = {
            "config": json.dumps(named(config.to_dict() | {"architectures": [model_class]}), default=str),
            "weights_of": shared or name,
            "fermata": json.dumps({"transformers": transformers.__version__, "torch": torch.__version__}),
        }
        save_file(tensors, os.path.join(OUTPUT, name + ".safetensors"), metadata=metadata)
        print(name, tuple(values.shape), float(values.std()), file=sys.stderr)


if __name__ == "__main__":
    main()
