"""What Jinja (Pallets, as the package transformers sets it up for chat templates) makes of our own test templates.

usage: python Scripts/golden/make_templates.py [FILE.jinja ...]   writes Tests/Goldens/templates.json
With files: prints the same document for those templates and a few conversations to standard output instead, to try
templates of others with `FERMATA_TEMPLATES=document make test FILTER=TemplatesTests`.

Needs: pip install transformers jinja2 (written with transformers 5, Jinja 3.1)
"""
import json
import pathlib
import sys

from jinja2 import Undefined  # noqa: F401  (states the dependency)
from transformers.utils.chat_template_utils import _compile_jinja_template

CONVERSATIONS = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Be brief.\nVery."}, {"role": "user", "content": " Hi there  "}],
    [
        {"role": "system", "content": "You help."},
        {"role": "user", "content": "What is 1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "And 2+2? Ünïcode ≠ 'quotes' \"double\""},
    ],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ],
    [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
]

SNIPPETS = [
    # White space around tags.
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n",
    "a\n  {%- if true -%}\n  b\n  {%- endif -%}\nc\n",
    "a {%+ if true %}\n b{% endif +%}\n c",
    "x\n   {# note #}\ny{# a #}\n{#- b -#}\n z",
    "  {{ 'a' }}  \n  {{- 'b' -}}  \n c",
    "{% raw %}{{ x }} {% if %}{% endraw %}\nend",
    "{%- raw -%}  {{ x }}  {%- endraw -%}  end",
    "line\r\nnext\r{{ 1 }}\n\n",
    "\t{% set x = 1 %}\n\t{{ x }}\n",
    # Loops.
    "{% for x in [1, 2, 3] %}{{ loop.index }}/{{ loop.length }}:{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for x in [1, 2, 3, 4] if x % 2 == 0 %}{{ loop.index0 }}{{ x }}{{ loop.first }}{% endfor %}",
    "{% for x in [] %}x{% else %}none{% endfor %}",
    "{% for k, v in {'a': 1, 'b': [2, 'c']}.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in range(10) %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in 'añb' %}[{{ x }}]{% endfor %}",
    "{% for x in [1, 2, 3] %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {{ loop.cycle('p', 'q') }}{% endfor %}",
    "{% set ns = namespace(n=0, last='') %}{% for x in [1, 2] %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}",
    "{% set x = 1 %}{% for y in [1] %}{% set x = 2 %}{% endfor %}{{ x }}{% if true %}{% set x = 3 %}{% endif %}{{ x }}",
    "{% for a, b in [(1, 2), (3, 4)] %}{{ a * b }} {% endfor %}",
    "{% for x in range(5, 0, -2) %}{{ x }}{{ loop.revindex }}{{ loop.revindex0 }} {% endfor %}",
    # Expressions.
    "{{ 1 + 2 * 3 - 4 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 7.5 % 2 }}",
    "{{ 1 ~ 'a' ~ none ~ true ~ 1.0 ~ 1e20 ~ 0.1 ~ 1e-7 }}",
    "{{ 'a' if false }}|{{ 'a' if true else 'b' }}|{{ 'a' if 0 else 'b' if '' else 'c' }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' in 'abc' }} {{ 'z' not in ['a'] }} {{ 'k' in {'k': 1} }}",
    "{{ not true or true and false }} {{ (1, 2)|length }} {{ [1, 'a\\'b', \"c\\\"d\", none, true] }} {{ {'a': {'b': 1.5}} }}",
    "{{ 'abc'[0] }}{{ 'abc'[-1] }}{{ [1, 2, 3][1:] }}{{ 'abcdef'[::-1] }}{{ 'abcdef'[1:-1:2] }}{{ [1, 2, 3][:-5] }}",
    "{{ x is defined }} {{ x }} {{ x is none }} {{ none is none }} {{ 'a' is string }} {{ 1 is number }} {{ [] is iterable }}",
    "{{ {} is mapping }} {{ 3 is odd }} {{ 4 is divisibleby 2 }} {{ 4 is divisibleby(3) }} {{ 1 is eq 1 }} {{ 'a' is in 'abc' }}",
    "{{ true is true }} {{ 1 is true }} {{ false is false }} {{ 1.5 is float }} {{ 1 is integer }} {{ x is not defined }}",
    "{{ a.b is defined }}{{ m.content }}{{ m['content'] }}{{ m.missing is defined }}{{ m.get('q', 'z') }}{{ m.get('content') }}",
    "{{ -3|abs }} {{ 'x' * 3 }} {{ [0] * 2 }} {{ [1] + [2] }} {{ 'a' 'b' }} {{ '\\n\\t\\\\'|length }} {{ '\\u00e9' }}",
    "{{ '%s is %d' % ('x', 3) }} {{ 'a%%' % () }} {{ '{} {b} {{}}'.format('p', b='q') }}",
    "{{ true == 1 }} {{ 1 == 1.0 }} {{ 'a' == 'a' }} {{ [1] == [1] }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ none == false }}",
    # Filters.
    "{{ '  a b '|trim }}|{{ 'ABC'|lower }}|{{ 'abc def'|upper }}|{{ 'hello wORLD'|title }}|{{ 'aBC'|capitalize }}",
    "{{ [1, 2, 3]|join(', ') }} {{ ['a', 'b']|join }} {{ [{'n': 1}, {'n': 2}]|map(attribute='n')|list }}",
    "{{ ['a', 'b']|map('upper')|join('-') }} {{ [1, 2, 3, 4]|select('odd')|list }} {{ [1, 2, 3]|reject('eq', 2)|list }}",
    "{{ [{'r': 'x', 'c': 1}, {'r': 'y', 'c': 2}]|selectattr('r', 'equalto', 'y')|map(attribute='c')|first }}",
    "{{ [{'r': 'x'}, {'q': 1}]|selectattr('r', 'defined')|list }} {{ [{'r': 'x'}, {'q': 1}]|rejectattr('r')|list|length }}",
    "{{ x|default('d') }} {{ ''|default('d', true) }} {{ none|default('d') }} {{ x|d }}",
    "{{ {'a': [1, 'é\\n', none, true, 1.5], 'b': {}}|tojson }} {{ [1, {'x': []}]|tojson(indent=2) }}",
    "{{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }} {{ [1]|tojson(false) }} {{ ['é']|tojson(indent=1, separators=(',', ':')) }} {{ {'b': 1, 'a': 2}|dictsort|map('first')|join }} {{ {'b': 1}|items|map('last')|list }}",
    "{{ 'a,b,c'.split(',') }} {{ 'a b  c'.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1)[0] }}",
    "{{ 'xxaxx'.strip('x') }} {{ 'abc'.replace('b', 'd') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'aXa'|replace('X', '-') }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abc'.find('c') }} {{ 'abcabc'.count('b') }}",
    "{{ ' a\\n'.rstrip() }}|{{ ' a '.lstrip() }}|{{ 'a\\nb\\n'.splitlines() }} {{ 'Ab'.upper() }} {{ 'prefix-x'.removeprefix('prefix-') }}",
    "{{ [3, 1, 2]|sort }} {{ ['b', 'A']|sort }} {{ [1, 2]|sum }} {{ [3, 1]|min }} {{ [3, 1]|max }} {{ [1, 1, 2]|unique|list }}",
    "{{ '12'|int + 1 }} {{ 'x'|int }} {{ '1.5'|float }} {{ 2.7|int }} {{ 2.5|round }} {{ 2.567|round(2) }} {{ 1|string + 'a' }}",
    "{{ 'a\\nb'|indent }}|{{ 'a\\n\\nb'|indent(2, true) }} {{ 'ab'|reverse }} {{ [1, 2]|reverse|list }} {{ 'ab'|list }}",
    "{{ [1, 2, 3]|first }}{{ [1, 2, 3]|last }}{{ 'abc'|length }}{{ {'a': 1}|count }} {{ '<a&b>'|e }} {{ [[1, 2], [3]]|batch(1)|list|length }}",
    # Macros, calls, captures.
    "{% macro f(a, b='z') %}<{{ a }}{{ b }}>{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(a=3, b=4) }}{{ f() }}",
    "{% macro w() %}[{{ caller() }}]{% endmacro %}{% call w() %}in{% endcall %}",
    "{% macro w(x) %}{{ caller(x) }}{% endmacro %}{% call(y) w(5) %}{{ y + 1 }}{% endcall %}",
    "{% set t %}a{{ 1 }}{% endset %}{{ t|upper }}{% filter upper %}b{{ 'c' }}{% endfilter %}{% with q = 2 %}{{ q }}{% endwith %}",
    "{% macro r(n) %}{% if n > 0 %}{{ n }}{{ r(n - 1) }}{% endif %}{% endmacro %}{{ r(3) }}",
    # Tuples, and the order of keys.
    "{{ (1, 2) }} {{ () }} {{ (1,) }} {{ ('a', (2, [3])) }} {{ (1, 2) == [1, 2] }} {{ (1, 2) == (1, 2) }} {{ (1,) + (2,) }}",
    "{{ (1, 2) * 2 }} {{ (1, 2, 3)[1:] }} {{ (1, 2)[-1] }} {{ (1, 'é')|tojson }} {{ '%s-%s' % (1, 2) }} {{ '%s' % [1, 2] }}",
    "{{ (1, 2)|list }} {{ (3, 1)|sort }} {{ (1, 2)|length }} {{ 2 in (1, 2) }} {{ (1, 2).count(2) }} {{ (1, 2) is sequence }}",
    "{{ {'b': 1, 'a': 2}.items()|list }} {{ {'b': 1, 'a': 2}|items|list }} {{ {'b': 1, 'a': 2}|dictsort }}",
    "{{ [{'k': 1, 'v': 2}, {'k': 1, 'v': 3}]|groupby('k') }} {% set t = 1, 'b' %}{{ t }} {{ [(1, 2)]|map('first')|list }}",
    "{{ o }} {{ o|tojson }} {% for k in o %}{{ k }}{% endfor %} {{ o|list }} {{ o.items()|list }} {{ o|tojson(indent=2) }}",
    "{% generation %}g{% endgeneration %}{{ dict(a=1)['a'] }}{% set a, b = 1, 2 %}{{ a }}{{ b }}",
]

# Keys that are in no order but their own.
ORDERED = {"z": 1, "a": {"y": [1, {"d": 0, "c": 1}], "b": None}, "é": 2, "m": ""}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "What the weather is like — \"now\".",
            "parameters": {
                "type": "object",
                "properties": {
                    "location": {"type": "string", "description": "City & country"},
                    "days": {"type": "integer", "minimum": 1, "default": 3},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                },
                "required": ["location"],
            },
            "return": {"type": "string"},
        },
    },
    {"type": "function", "function": {"name": "stop", "description": "", "parameters": {"type": "object", "properties": {}}}},
]

# As public templates offer tools.
TOOL_CHATS = [
    """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- endif %}
{%- for m in messages %}
{{ m.role }}: {{ m.content }}
{% endfor %}""",
    """{%- if tools is not none %}
{%- for t in tools %}{{ t | tojson(indent=4) }}

{% endfor %}{% endif %}{{ messages[-1]['content'] }}""",
    """{%- for tool in tools or [] %}{% set f = tool.function %}
{{ f.name }}({% for name, schema in f.parameters.properties.items() %}{{ name }}: {{ schema.type }}
{%- if schema.enum %} = {{ schema.enum | join('|') }}{% endif %}{% if not loop.last %}, {% endif %}{% endfor %}) -> {{ f['return'] }}
{% endfor %}""",
]

CHATS = [
    """{{ bos_token }}{% for message in messages %}
{{ '<|' + message['role'] + '|>' }}
{{ message['content'] | trim }}{{ eos_token }}
{% endfor %}
{% if add_generation_prompt %}
<|assistant|>
{% endif %}
""",
    """{%- if messages[0]['role'] == 'system' -%}
    {%- set system = messages[0]['content'] -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set system = 'default' -%}
    {%- set rest = messages -%}
{%- endif -%}
{{- bos_token + '[S]' + system + '[/S]' -}}
{%- for m in rest -%}
    {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{- raise_exception('Roles must alternate') -}}
    {%- endif -%}
    {%- if m.role == 'user' %}
        {{- '[U]' + m.content + '[/U]' }}
    {%- else %}
        {%- set content = m.content.split('</think>')[-1].lstrip('\\n') %}
        {{- ' ' + content + eos_token }}
    {%- endif -%}
{%- endfor -%}
""",
]


def render(template, **values):
    return _compile_jinja_template(template).render(**values)


def chat_cases(templates):
    for template in templates:
        for messages in CONVERSATIONS:
            for prompt in (True, False):
                values = {"messages": messages, "add_generation_prompt": prompt, "bos_token": "<s>", "eos_token": "</s>"}
                yield template, values


def tool_cases():
    for template in TOOL_CHATS:
        for tools in (TOOLS, None):
            yield template, {"messages": CONVERSATIONS[0], "tools": tools}


def main():
    files = sys.argv[1:]
    cases = list(chat_cases([pathlib.Path(f).read_text() for f in files] or CHATS))
    if not files:
        cases += [(snippet, {"m": {"content": "C", "role": "r"}, "a": {}} | ({"o": ORDERED} if "o|tojson" in snippet else {})) for snippet in SNIPPETS]
        cases += list(tool_cases())
    found = []
    for template, values in cases:
        try:
            found.append({"template": template, "values": values, "text": render(template, **values)})
        except Exception as error:  # what the template refuses, ours must refuse too
            found.append({"template": template, "values": values, "error": f"{type(error).__name__}: {error}"})
    text = json.dumps(found, ensure_ascii=False, indent=1) + "\n"
    if files:
        print(text)
    else:
        path = pathlib.Path(__file__).parents[2] / "Tests/Goldens/templates.json"
        path.write_text(text)
        print(f"{len(found)} cases, {sum('error' in c for c in found)} of them refusals, {len(text)} bytes")
        for case in found:
            if "error" in case and case["template"] not in CHATS + TOOL_CHATS:
                print(repr(case["template"]), case["error"])


main()
