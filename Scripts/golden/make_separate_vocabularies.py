"""Writes Tests/Goldens/separate_vocabularies.json: folders whose tokenizer stands in separate files (vocab.json and merges.txt, or
vocab.txt), and the ids that `transformers` gives some texts.

Usage:
    python3 -m venv venv && venv/bin/pip install transformers==5.24.0
    venv/bin/python Scripts/golden/make_separate_vocabularies.py

The vocabularies are those of Tests/Goldens/tokenizers.json, which is read; only what stands beside them is written.
"""

import json
import tempfile
from pathlib import Path

from transformers import AutoTokenizer

TEXTS = [
    "", "Hello world", " the end", "It's  two   spaces\n\nand lines\t!", "naïve CAFÉ Ünïcödé ÅÅ", "12345 3.14", "我想在中文 日本語",
    "a<|endoftext|>b", "x <mask> y<s>z</s>", "<|im_start|>user\nhi<|im_end|>", "[CLS] a [MASK] b [SEP]", "e\u0301 \u00a0 \u200b 🙂",
    "<extra> the", "newtoken NEWTOKEN",
]


def token(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True} | flags


CASES = [
    ("gpt2", "bytes", {}, {"config.json": {"model_type": "gpt2"}}),
    ("gpt2_class", "bytes", {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True, "add_bos_token": True}, {}),
    (
        "qwen2", "bytes",
        {
            "tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
            "added_tokens_decoder": {
                "800": token("<|endoftext|>"), "801": token("<|im_start|>"), "802": token("<|im_end|>"),
                "803": token("<extra>", special=False, rstrip=True),
            },
        }, {},
    ),
    ("qwen3", "bytes", {}, {"config.json": {"model_type": "qwen3"}}),
    (
        "bart", "bytes",
        {"tokenizer_class": "BartTokenizer", "mask_token": {"__type": "AddedToken"} | token("<mask>", lstrip=True, special=False)},
        {},
    ),
    ("bert", "pieces", {}, {"config.json": {"model_type": "bert"}}),
    ("bert_cased", "pieces", {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "strip_accents": False}, {}),
    (
        "bert_added", "pieces",
        {
            "tokenizer_class": "BertTokenizer", "tokenize_chinese_chars": False,
            "added_tokens_decoder": {"650": token("newtoken", special=False, normalized=True), "651": token("<extra>", lstrip=True)},
        }, {},
    ),
]


def write(folder, model, configuration, others):
    if model["type"] == "BPE":
        (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
    else:
        ordered = sorted(model["vocab"], key=model["vocab"].get)
        (folder / "vocab.txt").write_text("".join(token + "\n" for token in ordered))
    if configuration:
        (folder / "tokenizer_config.json").write_text(json.dumps(configuration))
    for name, content in others.items():
        (folder / name).write_text(json.dumps(content))


def main():
    goldens = Path(__file__).parents[2] / "Tests/Goldens"
    models = json.loads((goldens / "tokenizers.json").read_text())["models"]
    found = []
    for name, model, configuration, others in CASES:
        with tempfile.TemporaryDirectory() as path:
            write(Path(path), json.loads(models[model]), configuration, others)
            tokenizer = AutoTokenizer.from_pretrained(path)
            print(name, type(tokenizer).__name__, len(tokenizer))
            found.append({
                "name": name, "model": model, "configuration": configuration, "others": others,
                "ids": [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS],
                "with_special": [tokenizer.encode(text) for text in TEXTS],
                "decoded": [tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) for text in TEXTS],
            })
    (goldens / "separate_vocabularies.json").write_text(
        json.dumps({"texts": TEXTS, "cases": found}, ensure_ascii=False, separators=(",", ":")) + "\n")


main()
