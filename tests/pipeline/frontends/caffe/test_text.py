"""Protobuf's text format, read without a schema."""

from __future__ import annotations

import math
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.caffe.message import Message
from onnxsmith.pipeline.frontends.caffe.text import parse_text


def read(text: str) -> Message:
    return parse_text(text, "net.prototxt")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a: 1", [1]),
        ("a: -1", [-1]),
        ("a: 0x1F", [31]),
        ("a: 017", [15]),
        ("a: 08", [8]),
        ("a: 1.5", [1.5]),
        ("a: .5", [0.5]),
        ("a: 5.", [5.0]),
        ("a: 1e-3", [0.001]),
        ("a: 2.5f", [2.5]),
        ("a: 2F", [2.0]),
        ("a: -inf", [-math.inf]),
        ("a: Infinity", [math.inf]),
        ("a: 1 a: 2", [1, 2]),
        ("a: [1, 2, 3]", [1, 2, 3]),
        ("a: []", []),
        ("a: 1; a: 2,", [1, 2]),
        ("# comment\na: 1 # another\n#last", [1]),
        ('a: "x"', ["x"]),
        ("a: 'x'", ["x"]),
        ('a: "x" "y"\n"z"', ["xyz"]),
        (r'a: "\n\t\"\\\x41\101"', ['\n\t"\\AA']),
        ("a: WORD", ["WORD"]),
        ("a: true", ["true"]),
        ("a: [MAX]", ["MAX"]),
        ("a: [MAX, AVE]", ["MAX", "AVE"]),
    ],
)
def test_values(text: str, values: Any) -> None:
    assert read(text).values("a") == values


@pytest.mark.parametrize(
    "text", ["a { b: 1 }", "a: { b: 1 }", "a < b: 1 >", "a [{ b: 1 }]", "a{b:1}"]
)
def test_messages(text: str) -> None:
    (message,) = read(text).messages("a")
    assert message.integers("b") == [1]


def test_messages_that_repeat_are_merged_where_one_is_asked_for() -> None:
    message = read("a { b: 1 } a { b: 2 c: 3 }").message("a")
    assert (message.integer("b", 0), message.integer("c", 0)) == (2, 3)


def test_an_extension_is_a_field_with_a_strange_name() -> None:
    assert read("[nv.param] { a: 1 }").messages("[nv.param]")[0].integer("a", 0) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {", "the text ends in the middle"),
        ("a", "the text ends in the middle"),
        ("a: 1 }", "line 1: a field's name should stand where '}' does"),
        ("\n\na 1", "line 3: a colon is missing after 'a'"),
        ("a: {b: 1>", "a field's name should stand where '>' does"),
        ('a: "x', "is unexpected"),
        ('a: "x\ny"', "is unexpected"),
        ("a: 1x", "is unexpected"),
        ("a: @", "'@' is unexpected"),
        ("a: -word", "a value should stand where '-word' does"),
        ("1: 2", "a field's name should stand where '1' does"),
        ("\x00", "is unexpected"),
        ("a { " * 40, "nest more than 32 deep"),
        ("a: 1\n" * 200_000, "more than 300,000 words"),
    ],
)
def test_text_that_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(SmithError) as caught:
        read(text)
    assert message in caught.value.message
    assert caught.value.message.startswith("net.prototxt")


@pytest.mark.parametrize(
    ("text", "ask", "message"),
    [
        (
            "a: 1.5",
            lambda m: m.integer("a", 0),
            "a should be a whole number of 32 bits, and is 1.5",
        ),
        ("a: 99999999999", lambda m: m.integer("a", 0), "32 bits"),
        ("a: 1e400", lambda m: m.integer("a", 0), "32 bits"),
        ("a: nan", lambda m: m.integer("a", 0), "32 bits"),
        ('a: "1"', lambda m: m.integer("a", 0), "a whole number, and is '1'"),
        ("a: -1", lambda m: m.size("a", 0), "0 or more, and is -1"),
        ("a: inf", lambda m: m.number("a", 0), "a finite number"),
        ("a: 1e39", lambda m: m.number("a", 0), "a number of 32 bits"),
        ("a: 1" + "0" * 400, lambda m: m.number("a", 0), "a finite number"),
        ("a { }", lambda m: m.text("a"), "text in quotes, and is a message"),
        ("a: 7", lambda m: m.flag("a", False), "true or false, and is 7"),
        ("a: X", lambda m: m.choice("a", {"Y": 0}, "Y"), "one of Y, and is 'X'"),
        ("a: 1", lambda m: m.message("a"), "a message in braces, and is 1"),
    ],
)
def test_values_of_the_wrong_type_are_named(text: str, ask: Any, message: str) -> None:
    with pytest.raises(SmithError) as caught:
        ask(read(text))
    assert message in caught.value.message


def test_what_is_asked_for_in_another_spelling() -> None:
    message = read("i: 2.0 n: 3 t: 1 f: FALSE e: 1 w: WORD")
    assert message.integer("i", 0) == 2
    assert message.number("n", 0) == 3.0
    assert message.flag("t", False)
    assert not message.flag("f", True)
    assert message.choice("e", {"A": 0, "B": 1}, "A") == "B"
    assert message.text("w") == "WORD"
    assert message.integer("absent", 5) == 5


names = st.text(string.ascii_letters + "_", min_size=1, max_size=6)
scalars = st.one_of(
    st.integers(-(2**31) + 1, 2**31 - 1),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(string.printable, max_size=8),
)
trees = st.recursive(
    st.dictionaries(names, st.lists(scalars, min_size=1, max_size=3), max_size=3),
    lambda inner: st.dictionaries(names, st.lists(inner, min_size=1, max_size=2), max_size=3),
    max_leaves=8,
)


def spell(tree: Any) -> str:
    out = []
    for name, values in tree.items():
        for value in values:
            if isinstance(value, dict):
                out.append(f"{name} {{ {spell(value)} }}")
            elif isinstance(value, str):
                text = "".join(f"\\{ord(c):03o}" for c in value)
                out.append(f'{name}: "{text}"')
            else:
                out.append(f"{name}: {value!r}")
    return "\n".join(out)


def unfold(message: Message) -> Any:
    return {
        name: [unfold(v) if isinstance(v, Message) else v for v in message.values(name)]
        for name in message.fields()
    }


@given(trees)
def test_what_is_written_is_read(tree: Any) -> None:
    assert unfold(read(spell(tree))) == tree
