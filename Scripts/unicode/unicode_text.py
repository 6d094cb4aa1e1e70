"""How the scripts here write tables as texts in Swift."""


def base36(number):
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = digits[number % 36]
    while number := number // 36:
        text = digits[number % 36] + text
    return text


def constant(name, comment, text, width=112):
    lines = [text[start : start + width] for start in range(0, len(text), width)]
    body = "\\\n".join("    " + line for line in lines)
    comment = "\n".join("  /// " + line for line in comment.split("\n"))
    return f'{comment}\n  static let {name}: StaticString = """\n{body}\n    """\n'
