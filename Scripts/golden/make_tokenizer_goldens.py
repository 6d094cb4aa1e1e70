"""Writes Tests/Goldens/tokenizers.json: small tokenizers of every kind, and what PyPI's `tokenizers` makes of 10,000 texts.

Usage:
    python3 -m venv venv && venv/bin/pip install tokenizers==0.23.3 sentencepiece==0.2.3
    venv/bin/python Scripts/golden/make_tokenizer_goldens.py TEXT [output folder, default Tests/Goldens]

TEXT is any English text of about a megabyte to train on; the committed file was made with the works of Shakespeare. The
texts are drawn, here and in the test alike, from the atoms in the file: SplitMix64 from the seed; for each text one draw
modulo 25 for the number of atoms, then for each a draw modulo the number of atoms. A digest is FNV-1a (64 bits) over a
block of texts, for each: ids without special tokens, ids with them, both as little-endian 32-bit numbers with 2^32 - 1
behind, and the UTF-8 of decoding the first without special tokens.
"""

import base64
import json
import sys
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Regex

SEED, TEXTS, BLOCK = 2026, 10_000, 500
MASK = (1 << 64) - 1

ATOMS = (
    "the and of to Hello world HELLO World it's I'LL we've don't 'S 'ſ 'K' naïve café Ünïcödé straße ẞ İstanbul ıß ŉ "
    "Ω Å K ﬁ ﬀ № ½ ² Ⅷ ① ㋿ 1 12 123 1234 12345 3.14 1,000 0x1F ١٢٣ १२ 〇 一二三 中文 我想在 日本語 ひらがな カタカナ ー ｶﾞ 한국어 "
    "각 각 นี้ ไทย কাজ தமிழ் हिन्दी עברית العربية لا ქართული ქ Ა Привет нещо Ελλάδα ΣΟΦΟΣ ὈΔΥΣΣΕΎΣ Հայ አማርኛ "
    "ភាសា ༄༅ မြန်မာ 𐐷 𝔘 𝟘 𒀀 🙂 👍🏽 👩‍👩‍👧 🏳️‍🌈 🇩🇪 ☃ ™ © ~ ` ! ? . , ; : ' \" “ ” « » ¿ … — – - _ __ -- --- "
    "... !!! ( ) [ ] { } < > <= => == != && || | / \\ // # @ $ € £ ¥ % ^ * + = ▁ ▁▁ Ġ Ċ ## ##ing </w> <unk> "
    "<s> </s> <|endoftext|> [CLS] [SEP] [MASK] [UNK] <mask> <extra> <0x41> e a z A Z x y q th ing"
).split(" ") + [
    " ", " ", " ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\t\t", "\v", "\f", "\u0085", "\u00a0", "\u1680",
    "\u2003", "\u2028", "\u2029", "\u202f", "\u3000", "\u200b", "\u200c", "\u200d", "\u200e", "\u2060", "\ufeff", "\ufffd",
    "\u0000", "\u0001", "\u0007", "\u001b", "\u007f", "\u0090", "\u009f", "\u00ad", "\u0300", "\u0301", "\u0327", "\u0345",
    "e\u0301", "e\u0327\u0301", "e\u0301\u0327", "a\u0308\u0304", "q\u0307\u0323", "\u1100\u1161\u11a8", "\ud7a3", "\u0e33",
    "\u0958", "\u2126", "\u212b", "\u1e9b\u0323", "\ufb01", "\u0344", "\u0f73", "\uf900", "\U0001d15e", "\U0002f800",
    "\ue000", "\U000f0000", "\u0378", "\U0001f9d1\u200d\U0001f33e", "\u0600", "\u180e", " the", " of", "ing ", " 's", "' era",
]


class SplitMix:
    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        value = self.state
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
        return value ^ (value >> 31)


def texts():
    random = SplitMix(SEED)
    for _ in range(TEXTS):
        count = random.next() % 25
        yield "".join(ATOMS[random.next() % len(ATOMS)] for _ in range(count))


def fnv(data, value):
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def digests(tokenizer):
    result, value = [], 0xCBF29CE484222325
    for index, text in enumerate(texts()):
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        special = tokenizer.encode(text, add_special_tokens=True).ids
        for ids in plain, special:
            for number in [*ids, MASK & 0xFFFFFFFF]:
                value = fnv(number.to_bytes(4, "little"), value)
        value = fnv(tokenizer.decode(plain, skip_special_tokens=True).encode(), value)
        if (index + 1) % BLOCK == 0:
            result.append(f"{value:016x}")
            value = 0xCBF29CE484222325
    return result


# MARK: Models


def corpus(path):
    text = Path(path).read_text()
    lines = [line for line in text.split("\n") if line][:12000]
    random = SplitMix(7)
    lines += ["".join(ATOMS[random.next() % len(ATOMS)] for _ in range(12)) for _ in range(3000)]
    return lines


def trained(model, trainer, lines, normalizer=None, pre_tokenizer=None):
    tokenizer = Tokenizer(model)
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(lines, trainer)
    return json.loads(tokenizer.to_str())["model"]


def all_models(lines):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    marks = pre_tokenizers.Metaspace()
    byte_names = [f"<0x{byte:02X}>" for byte in range(256)]
    found = {
        "bytes": trained(
            models.BPE(), trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False), lines,
            pre_tokenizer=byte_level),
        "marks": trained(
            models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
            trainers.BpeTrainer(vocab_size=600, special_tokens=["<unk>", *byte_names], limit_alphabet=80,
                                show_progress=False), lines, pre_tokenizer=marks),
        "suffix": trained(
            models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"),
            trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"], end_of_word_suffix="</w>", limit_alphabet=90,
                                show_progress=False), lines, pre_tokenizer=pre_tokenizers.Whitespace()),
        "prefix": trained(
            models.BPE(unk_token="[UNK]", continuing_subword_prefix="##"),
            trainers.BpeTrainer(vocab_size=400, special_tokens=["[UNK]"], continuing_subword_prefix="##",
                                limit_alphabet=90, show_progress=False),
            lines, pre_tokenizer=pre_tokenizers.Whitespace()),
        "unigram": trained(
            models.Unigram(),
            trainers.UnigramTrainer(vocab_size=400, unk_token="<unk>", special_tokens=["<unk>", "<s>", "</s>"],
                                    show_progress=False), lines, pre_tokenizer=marks),
        "pieces": trained(
            models.WordPiece(unk_token="[UNK]"),
            trainers.WordPieceTrainer(vocab_size=600, special_tokens=["[UNK]", "[CLS]", "[SEP]", "[MASK]"],
                                      limit_alphabet=150, show_progress=False), lines,
            normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()),
        "words": trained(
            models.WordLevel(unk_token="<unk>"),
            trainers.WordLevelTrainer(vocab_size=500, special_tokens=["<unk>"], show_progress=False), lines,
            pre_tokenizer=pre_tokenizers.Whitespace()),
    }
    # Unknown characters stay unknown in one copy, become bytes in another.
    found["unknowns"] = {**found["marks"], "byte_fallback": False, "fuse_unk": False}
    vocabulary = found["unigram"]["vocab"] + [[name, -20.0] for name in byte_names]
    found["unigram_bytes"] = {**found["unigram"], "vocab": vocabulary, "byte_fallback": True}
    found["words_whole"] = {**found["bytes"], "ignore_merges": True}
    return found


def character_map():
    """A compiled map of a few rules, from SentencePiece."""
    rules = {
        "\ufb01": "fi", "\u00bd": "1/2", "\u2460": "1", "\u212b": "\u00c5", "e\u0301": "\u00e9", "\u0327": "",
        "\u2122": "TM", "\u1100\u1161\u11a8": "\uac01", "\t": " ", "\u3000": " ", "\uff76\uff9e": "\u30ac",
        "\u2026": "...", "\u200d": "", "stra\u00dfe": "strasse", "\ufeff": "",
    }
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "rules.tsv"
        table.write_text("".join(
            " ".join(f"{ord(c):X}" for c in key) + "\t" + " ".join(f"{ord(c):X}" for c in value) + "\n"
            for key, value in rules.items()))
        text = Path(folder) / "text"
        text.write_text("a b c d e f g\n" * 50)
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=f"{folder}/m", vocab_size=12, normalization_rule_tsv=str(table),
            minloglevel=2)
        model = (Path(folder) / "m.model").read_bytes()
    # ModelProto.normalizer_spec is field 3, its precompiled_charsmap field 2.
    return base64.b64encode(field(field(model, 3), 2)).decode()


def field(message, wanted):
    """The bytes of a field of a protobuf message."""

    def varint(place):
        value, shift = 0, 0
        while True:
            byte = message[place]
            value |= (byte & 127) << shift
            place, shift = place + 1, shift + 7
            if byte < 128:
                return value, place

    place = 0
    while place < len(message):
        key, place = varint(place)
        if key & 7 == 2:
            size, place = varint(place)
            if key >> 3 == wanted:
                return message[place : place + size]
            place += size
        elif key & 7 == 0:
            _, place = varint(place)
        else:
            place += 8 if key & 7 == 1 else 4
    raise ValueError("no such field")


class Pieces:
    """A SentencePiece model with the interface of `tokenizers`."""

    class Encoding:
        def __init__(self, ids):
            self.ids = ids

    def __init__(self, model):
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    def encode(self, text, add_special_tokens):
        return Pieces.Encoding(self.processor.encode(text, add_bos=add_special_tokens))

    def decode(self, ids, skip_special_tokens):
        return self.processor.decode(ids)


def sentence_pieces(lines):
    """(name, the bytes of a .model)"""
    kinds = {
        "unigram": {"model_type": "unigram", "user_defined_symbols": ["the", "<extra>", "ing"]},
        "bpe": {"model_type": "bpe", "user_defined_symbols": ["the", "<extra>"], "byte_fallback": True},
        "unigram_spaces": {"model_type": "unigram", "remove_extra_whitespaces": False, "byte_fallback": True},
        "unigram_suffix": {"model_type": "unigram", "treat_whitespace_as_suffix": True},
        "bpe_spaces": {"model_type": "bpe", "remove_extra_whitespaces": False, "add_dummy_prefix": False,
                       "allow_whitespace_only_pieces": True},
    }
    for name, options in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "text"
            text.write_text("\n".join(line.replace("\0", "") for line in lines))
            rules = Path(folder) / "rules.tsv"
            rules.write_text("FB01\t66 69\n65 301\tE9\n2460\t31\n9\t20\n3000\t20\n2026\t2E 2E 2E\n200D\t\n")
            sentencepiece.SentencePieceTrainer.train(
                input=str(text), model_prefix=f"{folder}/m", vocab_size=500, character_coverage=0.98,
                hard_vocab_limit=False, normalization_rule_tsv=str(rules), minloglevel=2, **options)
            yield name, (Path(folder) / "m.model").read_bytes()


# MARK: Tokenizers


def added(content, number, **flags):
    base = {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True}
    return {**base, **flags}


def sequence(kind, parts):
    names = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders",
             "post_processor": "processors"}
    return {"type": "Sequence", names[kind]: parts}


def split(pattern, behavior="Isolated", invert=False, literal=False):
    return {"type": "Split", "pattern": {"String" if literal else "Regex": pattern}, "behavior": behavior,
            "invert": invert}


GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")
GPT4_POSSESSIVE = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
                   r"|\s+(?!\S)|\s+")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BYTES_ONLY = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
BYTE_WORDS = {**BYTES_ONLY, "use_regex": True}
BYTE_DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
MARK_DECODER = sequence("decoder", [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0}])
MARKED = sequence("normalizer", [{"type": "Prepend", "prepend": "▁"},
                                 {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}])


def template(before, after):
    def special(pair):
        return {"SpecialToken": {"id": pair[0], "type_id": 0}}

    text = {"Sequence": {"id": "A", "type_id": 0}}
    single = [special(pair) for pair in before] + [text] + [special(pair) for pair in after]
    tokens = {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in before + after}
    return {"type": "TemplateProcessing", "single": single, "pair": single + [
        {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": tokens}


def variants(charsmap):
    """(name, model, parts)"""
    end = [added("<|endoftext|>", 700), added("<mask>", 701, lstrip=True), added("<extra>", 702, rstrip=True)]
    plain = {"decoder": BYTE_DECODER}
    yield "gpt2", "bytes", {"pre_tokenizer": BYTE_WORDS, "added_tokens": end, **plain}
    yield "gpt2_prefix", "bytes", {"pre_tokenizer": {**BYTE_WORDS, "add_prefix_space": True}, "added_tokens": end, **plain}
    yield "roberta", "bytes", {
        "pre_tokenizer": {**BYTE_WORDS, "add_prefix_space": True}, "added_tokens": [
            added("<s>", 700, normalized=True), added("</s>", 701, normalized=True), added("<mask>", 702, lstrip=True)],
        "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 701], "cls": ["<s>", 700],
                           "trim_offsets": True, "add_prefix_space": True}, **plain}
    for name, pattern in {"gpt4": GPT4, "gpt4_possessive": GPT4_POSSESSIVE, "gpt4o": GPT4O}.items():
        yield name, "words_whole", {
            "pre_tokenizer": sequence("pre_tokenizer", [split(pattern), BYTES_ONLY]), "added_tokens": end,
            "post_processor": sequence("post_processor", [
                {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
                template([("<|endoftext|>", 700)], [])]), **plain}
    yield "qwen2", "bytes", {"normalizer": {"type": "NFC"}, "pre_tokenizer": sequence(
        "pre_tokenizer", [split(GPT4.replace("{1,3}", "")), BYTES_ONLY]), "added_tokens": end, **plain}
    yield "deepseek", "bytes", {"pre_tokenizer": sequence("pre_tokenizer", [
        split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK), BYTES_ONLY]), **plain}
    yield "deepseek_coder", "bytes", {"pre_tokenizer": sequence("pre_tokenizer", [
        split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"),
        {"type": "Digits", "individual_digits": True}, BYTES_ONLY]), **plain}
    yield "falcon", "bytes", {"pre_tokenizer": sequence("pre_tokenizer", [
        {"type": "Punctuation", "behavior": "Contiguous"}, BYTE_WORDS, {"type": "Digits", "individual_digits": False},
        split("[0-9][0-9][0-9]")]), **plain}
    yield "bloom", "bytes", {"pre_tokenizer": sequence("pre_tokenizer", [
        split(r" ?[^(\s|[.,!?…。，、।۔،])]+"), BYTES_ONLY]), **plain}
    yield "byte_normalizer", "bytes", {"normalizer": {"type": "ByteLevel"}, **plain}
    for behavior in "Removed Isolated MergedWithPrevious MergedWithNext Contiguous".split():
        yield f"split_{behavior}", "bytes", {"pre_tokenizer": sequence("pre_tokenizer", [
            split(r"\s+|e", behavior), BYTES_ONLY]), **plain}
        yield f"split_inverted_{behavior}", "bytes", {"pre_tokenizer": sequence("pre_tokenizer", [
            split(r"[^\s]", behavior, invert=True), BYTES_ONLY]), **plain}
        yield f"punctuation_{behavior}", "bytes", {"pre_tokenizer": sequence("pre_tokenizer", [
            {"type": "Punctuation", "behavior": behavior}, BYTES_ONLY]), **plain}
    yield "split_literal", "bytes", {"pre_tokenizer": sequence("pre_tokenizer", [
        split("...", "MergedWithNext", literal=True), BYTES_ONLY]), **plain}
    yield "scripts", "bytes", {"pre_tokenizer": sequence("pre_tokenizer", [
        {"type": "UnicodeScripts"}, BYTES_ONLY]), **plain}
    yield "fixed_length", "bytes", {"pre_tokenizer": sequence("pre_tokenizer", [
        {"type": "FixedLength", "length": 3}, BYTES_ONLY]), **plain}
    for name in "NFC NFD NFKC NFKD Lowercase StripAccents Nmt".split():
        yield name, "bytes", {"normalizer": {"type": name}, "pre_tokenizer": BYTE_WORDS, **plain}
    yield "strip", "bytes", {"normalizer": sequence("normalizer", [
        {"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "NFKD"}, {"type": "StripAccents"},
        {"type": "Lowercase"}, {"type": "Replace", "pattern": {"Regex": r"\s+|[aeiou]{2}"}, "content": "_"}]),
        "pre_tokenizer": BYTE_WORDS, **plain}
    yield "precompiled", "bytes", {"normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap},
                                   "pre_tokenizer": BYTE_WORDS, **plain}
    yield "bert_normalizer", "bytes", {"normalizer": {
        "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
        "lowercase": False}, "pre_tokenizer": BYTE_WORDS, **plain}
    sentence = [added("<unk>", 0), added("<s>", 600), added("</s>", 601)]
    bos = template([("<s>", 600)], [])
    yield "llama2", "marks", {"normalizer": MARKED, "added_tokens": sentence, "post_processor": bos,
                              "decoder": MARK_DECODER}
    yield "llama2_unknowns", "unknowns", {"normalizer": MARKED, "added_tokens": sentence, "decoder": MARK_DECODER}
    for scheme in "first", "never", "always":
        for cut in True, False:
            yield f"marks_{scheme}_{cut}", "marks", {
                "pre_tokenizer": {**METASPACE, "prepend_scheme": scheme, "split": cut}, "added_tokens": [
                    *sentence, added("the", 602, special=False, normalized=True, single_word=True),
                    added("ing", 603, special=False, normalized=True)],
                "decoder": {**METASPACE, "prepend_scheme": scheme, "split": cut}}
    yield "t5", "unigram", {
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap},
        "pre_tokenizer": sequence("pre_tokenizer", [{"type": "WhitespaceSplit"}, METASPACE]),
        "added_tokens": [added("<unk>", 0), added("<s>", 1), added("</s>", 2)],
        "post_processor": template([], [("</s>", 2)]), "decoder": METASPACE}
    yield "unigram_nmt", "unigram_bytes", {
        "normalizer": sequence("normalizer", [
            {"type": "Nmt"}, {"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]),
        "pre_tokenizer": METASPACE, "decoder": MARK_DECODER}
    bert = [added("[UNK]", 0), added("[CLS]", 1), added("[SEP]", 2), added("[MASK]", 3)]
    yield "bert", "pieces", {
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "added_tokens": bert,
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}}
    yield "bert_words", "pieces", {
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"}, "added_tokens": bert,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False}}
    yield "words", "words", {"pre_tokenizer": sequence("pre_tokenizer", [
        {"type": "Whitespace"}, {"type": "Digits", "individual_digits": True}])}
    yield "words_delimited", "words", {"pre_tokenizer": {"type": "CharDelimiterSplit", "delimiter": "e"}}
    yield "suffix", "suffix", {"pre_tokenizer": {"type": "Whitespace"},
                               "decoder": {"type": "BPEDecoder", "suffix": "</w>"}}
    yield "prefix", "prefix", {"pre_tokenizer": {"type": "WhitespaceSplit"},
                               "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}}
    yield "ctc", "words", {"pre_tokenizer": {"type": "Whitespace"}, "decoder": {
        "type": "CTC", "pad_token": "<unk>", "word_delimiter_token": "|", "cleanup": True}}
    yield "strip_each", "marks", {"pre_tokenizer": METASPACE, "decoder": sequence("decoder", [
        {"type": "Replace", "pattern": {"Regex": "▁|e"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}])}


def compact(value):
    """Models stand in the file as texts: their keys differ in ways that some readers of JSON do not see."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def main():
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else "Tests/Goldens")
    lines = corpus(sys.argv[1])
    found = all_models(lines)
    tokenizers = []
    for name, model, parts in variants(character_map()):
        whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
                 "pre_tokenizer": None, "post_processor": None, "decoder": None, **parts, "model": found[model]}
        tokenizer = Tokenizer.from_str(json.dumps(whole))
        tokenizers.append({"name": name, "model": model, "parts": parts, "digests": digests(tokenizer)})
        print(name, flush=True)
    pieces = [{"name": name, "file": base64.b64encode(model).decode(), "digests": digests(Pieces(model))}
              for name, model in sentence_pieces(lines)]
    (folder / "tokenizers.json").write_text(json.dumps(
        {"seed": SEED, "block": BLOCK, "atoms": ATOMS, "models": {name: compact(model) for name, model in found.items()},
         "tokenizers": tokenizers, "sentence_pieces": pieces}, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main()
