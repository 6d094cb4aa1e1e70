"""Writes Sources/Tokenizers/Unicode/LibraryData.swift: what PyPI's `tokenizers` does not know of Unicode 16.

Its parts use tables of different ages, from Unicode 8 on. A tokenizer's ids are what that library makes of a text, so
each part of ours differs from Unicode 16 where the library's does. Found by asking the library
about every code point.

Usage:
    python3 -m venv venv && venv/bin/pip install tokenizers==0.23.3 unicodedata2==16.0.0
    venv/bin/python Scripts/unicode/make_library_tables.py [output folder, default Sources/Tokenizers/Unicode]
"""

import sys
from pathlib import Path

import tokenizers
import unicodedata2 as unicode
from tokenizers import normalizers, pre_tokenizers

from unicode_text import base36, constant

SCALARS = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]


def ranges(codes):
    """Entries `gap,count` in base 36, gaps between starts."""
    coded, previous, index = [], 0, 0
    codes = sorted(codes)
    while index < len(codes):
        start = index
        while index + 1 < len(codes) and codes[index + 1] == codes[index] + 1:
            index += 1
        index += 1
        coded.append(f"{base36(codes[start] - previous)},{base36(index - start)}")
        previous = codes[start]
    return " ".join(coded)


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "Sources/Tokenizers/Unicode")
    nfkd, nfd, strip = normalizers.NFKD(), normalizers.NFD(), normalizers.StripAccents()

    def bert(**flags):
        off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
        return normalizers.BertNormalizer(**{**off, **flags})

    clean, accents = bert(clean_text=True), bert(strip_accents=True)
    punctuation, scripts = pre_tokenizers.Punctuation(), pre_tokenizers.UnicodeScripts()
    digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Whitespace()
    found = {name: [] for name in "decompositions classes marks accents controls punctuation scripts".split()}
    for code in SCALARS:
        text, category = chr(code), unicode.category(chr(code))
        mapped = unicode.decomposition(text) and not 0xAC00 <= code <= 0xD7A3
        if mapped and nfkd.normalize_str(text) == text != unicode.normalize("NFKD", text):
            found["decompositions"].append(code)
        rank = unicode.combining(text)
        if rank:
            # A mark of another class beside it shows whether the two change places.
            pair = text + "\u0334" if rank > 1 else "\u0301" + text
            if nfd.normalize_str("a" + pair) == "a" + pair:
                found["classes"].append(code)
        if (category[0] == "M") != (strip.normalize_str(text) == ""):
            found["marks"].append(code)
        if (category == "Mn") != (accents.normalize_str("a" + text) == "a"):
            found["accents"].append(code)
        if (category in ("Cc", "Cf", "Co")) != (clean.normalize_str(text) == "") and text not in "\t\n\r\ufffd":
            found["controls"].append(code)
        is_sign = category[0] == "P" or code < 0x80 and category[0] == "S"
        if is_sign != (len(punctuation.pre_tokenize_str("a" + text)) == 2):
            found["punctuation"].append(code)
        if category not in ("Cn", "Cs", "Co") and code != 0x20 and not scripts.pre_tokenize_str(text):
            found["scripts"].append(code)
        if (category[0] == "N") != (len(digits.pre_tokenize_str("a" + text)) == 2):
            print(f"numeric differs: {code:x} {category}")
    comments = {
        "decompositions": "Characters that have a decomposition it does not know.",
        "classes": "Marks whose combining class it takes for 0.",
        "marks": "Marks that `StripAccents` leaves, and others that it takes for marks.",
        "accents": "Where `BertNormalizer` and category Mn differ.",
        "controls": "Where `BertNormalizer` and the categories Cc, Cf and Co differ.",
        "punctuation": "Where it and the categories of punctuation differ.",
        "scripts": "Characters that it knows no script of.",
    }
    head = (f"// Written by Scripts/unicode/make_library_tables.py with tokenizers {tokenizers.__version__} and Unicode "
            f"{unicode.unidata_version}; not edited by hand.\n\n")
    body = "\n".join(
        constant(name, comments[name] + " Entries `gap,count`, in base 36; gaps are between starts.", ranges(codes))
        for name, codes in found.items())
    about = "/// What parts of tokenizer.json's own library do not know of Unicode: it has tables of several ages.\n"
    (folder / "LibraryData.swift").write_text(head + about + "enum LibraryData {\n" + body + "}\n")
    print({name: len(codes) for name, codes in found.items()})


main()
