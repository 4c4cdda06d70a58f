"""Hostile templates: every operation's result is bounded, and the system limits what is left."""

import json
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from camelid.base import limited_process
from camelid.base.errors import CamelidError
from camelid.text import bounds
from camelid.text.chat_template import ChatTemplate
from camelid.text.conversation import Conversation
from camelid.text.sandbox import Sandbox

TALK = Conversation.of(("Hello?", "Hi!"))
GROWN = "{% set ns = namespace(s='x' * 1000) %}{% for i in range(60) %}{% set ns.s = STEP %}{% endfor %}"
LARGE = "{% set b = 'x' * 16000000 %}"

HOSTILE = {
    "ljust": "{{ 'a'.ljust(3 * 10**9) }}",
    "center": "{{ 'a'.center(3 * 10**9) }}",
    "zfill": "{{ 'a'.zfill(width=3 * 10**9) if false else 'a'.zfill(3 * 10**9) }}",
    "a method by its name in brackets": "{{ 'a'['rjust'](3 * 10**9) }}",
    "a method kept in a variable": "{% set f = 'a'.ljust %}{{ f(3 * 10**9) }}",
    "center as a filter of constants": "{{ 'a' | center(3000000000) }}",
    "center through map": "{{ ['a'] | map('center', 3000000000) | list }}",
    "indent": "{{ 'a\\nb' | indent(3000000000, true) }}",
    "format with a width": "{{ '{:3000000000}'.format('a') }}",
    "format with a width from outside": "{{ '{:{}}'.format('a', 3000000000) }}",
    "format map": "{{ '{a:{b}}'.format_map({'a': 1, 'b': 3000000000}) }}",
    "percent": "{{ '%3000000000d' % 1 }}",
    "percent with a star": "{{ '%*d' % (3000000000, 1) }}",
    "percent as a filter": "{{ '%3000000000s' | format('a') }}",
    "percent with a precision": "{{ '%.3000000000f' % 0.5 }}",
    "percent many times": LARGE + "{{ ('%s' * 1000) % ((b,) * 1000) }}",
    "bytes": "{{ 'a'.encode().ljust(3 * 10**9) }}",
    "bytes of a number": "{{ (1).to_bytes(3 * 10**9, 'big') }}",
    "repeated +": GROWN.replace("STEP", "ns.s + ns.s") + "{{ ns.s | length }}",
    "repeated ~": GROWN.replace("STEP", "ns.s ~ ns.s") + "{{ ns.s | length }}",
    "lists": GROWN.replace("STEP", "[ns.s] + [ns.s]").replace("'x' * 1000", "'x' * 1000000") + "{{ ns.s }}",
    "squares": GROWN.replace("STEP", "ns.s * ns.s").replace("'x' * 1000", "10") + "{{ ns.s > 0 }}",
    "sums of numbers": GROWN.replace("STEP", "ns.s + 2 ** 9999999").replace("'x' * 1000", "10")
    + "{{ ns.s > 0 }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "join": LARGE + "{{ [b, b] * 1000 | join }}{{ ([b] * 1000) | join }}",
    "join with a long separator": LARGE + "{{ range(1000) | join(b) }}",
    "the method join": LARGE + "{{ b.join(['a'] * 1000) }}",
    "replace": LARGE + "{{ b | replace('x', 'yyyy') }}",
    "the method replace": LARGE + "{{ b.replace('', 'yyyy') }}",
    "tojson": LARGE + "{{ ([b] * 1000) | tojson }}",
    "tojson indented": "{{ [1, [2]] | tojson(indent=3000000000) }}",
    "string": LARGE + "{{ ([b] * 1000) | string }}",
    "output of a list": LARGE + "{{ [b] * 1000 }}",
    "nested lists": GROWN.replace("STEP", "[ns.s, ns.s]") + "{{ ns.s }}",
    "sum of lists": "{{ ([[0] * 1000000] * 1000) | sum(start=[]) | length }}",
    "batch": "{{ [1] | batch(3000000000, 'x') | list | length }}",
    "slice": "{{ [1] | slice(3000000000, 'x') | list | length }}",
    "range": "{% for i in range(10**9) %}{% endfor %}",
    "expandtabs": "{{ ('\\t' * 1000).expandtabs(3000000) }}",
    "translate": LARGE + "{{ ('a' * 1000).translate({97: b}) }}",
    "wordwrap": "{{ ('a b' * 10000) | wordwrap(1, wrapstring='x' * 100000) }}",
    "a block": "{% set a %}{% for i in range(99999) %}" + "x" * 999 + "{% endfor %}{% endset %}",
    "a macro": "{% macro m() %}{% for i in range(99999) %}"
    + "x" * 999
    + "{% endfor %}{% endmacro %}{{ m() }}",
    "copies": LARGE + "{% for i in range(99999) %}{% set c = b + 'y' %}{% endfor %}",
    "lorem ipsum": "{{ lipsum(10**9) }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_every_result_is_bounded_before_it_is_computed(name: str):
    """In this process, without the other one's limits."""
    began, before = time.process_time(), psutil.Process().memory_info().rss
    with pytest.raises(CamelidError, match=r"more than|rejects the conversation"):
        Sandbox(extensions=["jinja2.ext.loopcontrols"]).read(HOSTILE[name], trusted=True).render({})
    assert time.process_time() - began < 10
    assert psutil.Process().memory_info().rss - before < 500_000_000


@pytest.mark.parametrize(
    "name", ["ljust", "center as a filter of constants", "repeated +", "squares", "a block"]
)
def test_foreign_templates_are_refused_with_the_same_words(name: str):
    with pytest.raises(CamelidError, match=r"the chat template (writes|copies) more than"):
        ChatTemplate(HOSTILE[name]).render(TALK)


def test_what_is_not_counted_ends_at_the_limits_of_its_process(monkeypatch: pytest.MonkeyPatch):
    """Slices of lists are copied by Python's own operator; the next rendering has a new process."""
    pytest.importorskip("resource", reason="this system has no limits of memory and time for a process")
    inner = "{% for j in range(40) %}{% set c = b[1:] == b[:-1] %}{% endfor %}"
    slow = f"{{% for i in range(99999) %}}{inner}{{% endfor %}}"
    monkeypatch.setattr(limited_process, "MOST_SECONDS", 1)
    monkeypatch.setattr(limited_process, "PATIENCE", 120)  # the machine may be busy
    with pytest.raises(CamelidError, match=r"the chat template takes more than 1 seconds of processor time"):
        ChatTemplate(LARGE + slow).render(TALK)
    monkeypatch.setattr(limited_process, "PATIENCE", 0.5)
    with pytest.raises(CamelidError, match=r"the chat template takes more than 0.5 seconds; it is damaged"):
        ChatTemplate(LARGE + slow).render(TALK)
    monkeypatch.undo()
    hoard = (
        "{% set ns = namespace(k=[]) %}{% for i in range(900) %}{% set ns.k = [ns.k, b[i:]] %}{% endfor %}"
    )
    with pytest.raises(CamelidError, match=r"needs more than 1 GiB of memory"):
        ChatTemplate(LARGE + hoard).render(TALK)
    assert ChatTemplate("{{ messages[0].content }}").render(TALK)[0].text == "Hello?"


def test_the_process_sees_none_of_our_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    limited_process._end()
    assert limited_process.call(environment, what="this test").count("secret") == 0


def environment() -> str:
    import os

    return str(os.environ)


def limits() -> str:
    import resource

    return json.dumps(resource.getrlimit(resource.RLIMIT_AS))


def test_the_process_has_limits_and_bugs_keep_their_text():
    assert json.loads(limited_process.call(limits, what="this test"))[0] == limited_process.MOST_BYTES
    with pytest.raises(RuntimeError, match="this test: JSONDecodeError"):
        limited_process.call(json.loads, "{", what="this test")


@given(
    text=st.text(max_size=8),
    other=st.text(max_size=4),
    number=st.integers(0, 60),
    values=st.lists(st.text(max_size=5), max_size=4),
)
def test_bounds_are_bounds(text: str, other: str, number: int, values: list[str]):
    most = 10**9
    for name, args in {
        "ljust": (number,),
        "zfill": (number,),
        "replace": (other, text),
        "join": (values,),
        "expandtabs": (number,),
    }.items():
        assert len(getattr(text, name)(*args)) <= bounds.METHODS[name](text, *args, most=most)
    fields = "{:>" + str(number) + "}|{:{}}|{}"
    assert len(fields.format(text, other, number, values)) <= bounds.METHODS["format"](
        fields, text, other, number, values, most=most
    )
    assert (
        len("%*d %s %r" % (number, 3, text, values))  # noqa: UP031
        <= bounds.binary("%", "%*d %s %r", (number, 3, text, values), most) * 8
    )
    assert len(text * number) == bounds.binary("*", text, number, most)
    for name, args in {"indent": (number,), "center": (number,), "replace": (other, text)}.items():
        source = "{{ t | " + name + "(*a) }}"
        result = ImmutableSandboxedEnvironment().from_string(source).render(t=text, a=args)
        assert len(result) <= bounds.FILTERS[name](text, *args, most=most)
