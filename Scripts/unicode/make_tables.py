"""Writes the Unicode tables of Sources/Tokenizers/Unicode: categories, decompositions, combining classes, scripts.

Usage:
    python3 -m venv venv && venv/bin/pip install unicodedata2==16.0.0 regex
    venv/bin/python Scripts/unicode/make_tables.py [output folder, default Sources/Tokenizers/Unicode]

Unicode 16.0, because that is what Oniguruma 6.9.10 has, the regular expressions of PyPI's `tokenizers`. The files this
writes say in their comments how the texts are coded.
"""

import sys
from pathlib import Path

import regex
import unicodedata2 as unicode

from unicode_text import base36, constant

LIMIT = 0x110000
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co Cn".split()
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ!$%&"
SCRIPTS = """Common Inherited Latin Greek Cyrillic Armenian Hebrew Arabic Syriac Thaana Devanagari Bengali Gurmukhi
Gujarati Oriya Tamil Telugu Kannada Malayalam Sinhala Thai Lao Tibetan Myanmar Georgian Hangul Ethiopic Cherokee
Canadian_Aboriginal Ogham Runic Khmer Mongolian Hiragana Katakana Bopomofo Han Yi Old_Italic Gothic Deseret Tagalog
Hanunoo Buhid Tagbanwa Limbu Tai_Le Linear_B Ugaritic Shavian Osmanya Cypriot Braille Buginese Coptic New_Tai_Lue
Glagolitic Tifinagh Syloti_Nagri Old_Persian Kharoshthi Balinese Cuneiform Phoenician Phags_Pa Nko Sundanese Lepcha
Ol_Chiki Vai Saurashtra Kayah_Li Rejang Lycian Carian Lydian Cham Tai_Tham Tai_Viet Avestan Egyptian_Hieroglyphs
Samaritan Lisu Bamum Javanese Meetei_Mayek Imperial_Aramaic Old_South_Arabian Inscriptional_Parthian
Inscriptional_Pahlavi Old_Turkic Kaithi Batak Brahmi Mandaic Chakma Meroitic_Cursive Meroitic_Hieroglyphs Miao Sharada
Sora_Sompeng Takri Caucasian_Albanian Bassa_Vah Duployan Elbasan Grantha Pahawh_Hmong Khojki Linear_A Mahajani
Manichaean Mende_Kikakui Modi Mro Old_North_Arabian Nabataean Palmyrene Pau_Cin_Hau Old_Permic Psalter_Pahlavi Siddham
Khudawadi Tirhuta Warang_Citi Ahom Anatolian_Hieroglyphs Hatran Multani Old_Hungarian SignWriting Adlam Bhaiksuki
Marchen Newa Osage Tangut Masaram_Gondi Nushu Soyombo Zanabazar_Square Dogra Gunjala_Gondi Hanifi_Rohingya Makasar
Medefaidrin Old_Sogdian Sogdian Elymaic Nandinagari Nyiakeng_Puachue_Hmong Wancho Chorasmian Dives_Akuru
Khitan_Small_Script Yezidi Cypro_Minoan Old_Uyghur Tangsa Toto Vithkuqi Kawi Nag_Mundari Garay Gurung_Khema Kirat_Rai
Ol_Onal Sunuwar Todhri Tulu_Tigalari""".split()


def runs(values):
    """(value, length) of equal neighbours."""
    found = []
    for value in values:
        if found and found[-1][0] == value:
            found[-1][1] += 1
        else:
            found.append([value, 1])
    return found


def write(folder, name, about, constants):
    head = f"// Written by Scripts/unicode/make_tables.py from Unicode {unicode.unidata_version}; not edited by hand.\n\n"
    text = head + f"/// {about}\nenum {name} {{\n" + "\n".join(constants) + "}\n"
    (folder / f"{name}.swift").write_text(text)


def categories():
    found = runs(unicode.category(chr(code)) for code in range(LIMIT))
    return "".join(LETTERS[CATEGORIES.index(name)] + (base36(length) if length > 1 else "") for name, length in found)


def combining_classes():
    coded, previous = [], 0
    start = 0
    for value, length in runs(unicode.combining(chr(code)) for code in range(LIMIT)):
        if value:
            coded.append(f"{base36(start - previous)},{base36(length)},{base36(value)}")
            previous = start
        start += length
    return " ".join(coded)


def decompositions(compatible):
    """Entries `gap,count,first[.second…]`; count > 1: so many code points whose single mappings follow each other."""
    entries = []
    for code in range(LIMIT):
        words = unicode.decomposition(chr(code)).split()
        if not words or words[0].startswith("<") != compatible or 0xAC00 <= code <= 0xD7A3:
            continue
        mapping = [int(word, 16) for word in words if not word.startswith("<")]
        excluded = not compatible and len(mapping) == 2 and unicode.normalize("NFC", chr(code)) != chr(code)
        last = entries[-1] if entries else None
        if last and len(mapping) == 1 == len(last[2]) and code == last[0] + last[1] and mapping[0] == last[2][0] + last[1]:
            last[1] += 1
        else:
            entries.append([code, 1, mapping, excluded])
    coded, previous = [], 0
    for code, count, mapping, excluded in entries:
        gap = base36(code - previous) + (f"+{base36(count)}" if count > 1 else "")
        coded.append(gap + ("!" if excluded else ":") + ".".join(base36(value) for value in mapping))
        previous = code
    return " ".join(coded)


def scripts():
    table = [None] * LIMIT
    text = "".join(chr(code) if not 0xD800 <= code < 0xE000 else "\0" for code in range(LIMIT))
    for number, name in enumerate(SCRIPTS):
        for match in regex.finditer(rf"\p{{Script={name}}}+", text):
            for code in range(*match.span()):
                table[code] = number
    for code in range(LIMIT):
        if unicode.category(chr(code)) in ("Cn", "Cs"):
            table[code] = None
    coded, start, previous = [], 0, 0
    for number, length in runs(table):
        if number is not None:
            coded.append(f"{base36(start - previous)},{base36(length)},{base36(number)}")
            previous = start
        start += length
    return " ".join(coded)


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "Sources/Tokenizers/Unicode")
    write(folder, "CategoryData", "General categories of all code points.", [
        constant(
            "runs", "Runs of equal categories from U+0000 on: a letter (the order of `UnicodeCategory`) and, unless it is\n"
            "1, the length in base 36.", categories())])
    write(folder, "CanonicalData", "Canonical decompositions and combining classes.", [
        constant(
            "decompositions", "Entries `gap[+count]:scalars`: the distance to the entry before, and what the code point is made of,\n"
            "in base 36; `!` instead of `:` where it is never composed again; a count where so many code points have single\n"
            "mappings that follow each other. Hangul syllables are computed.", decompositions(False)),
        constant(
            "combiningClasses", "Entries `gap,count,class` for classes other than 0, in base 36; gaps are between starts.",
            combining_classes())])
    write(folder, "CompatibilityData", "Compatibility decompositions.", [
        constant("decompositions", "Coded like `CanonicalData.decompositions`.", decompositions(True))])
    names = " ".join(SCRIPTS)
    write(folder, "ScriptData", "Scripts of all code points that have one.", [
        constant("names", "Names, in the order of the numbers below.", names, width=110),
        constant("runs", "Entries `gap,count,script`, in base 36; gaps are between starts.", scripts())])


main()
