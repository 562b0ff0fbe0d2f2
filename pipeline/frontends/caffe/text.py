"""Read protobuf's text format without a schema: what a ``.prototxt`` holds.

Source: https://protobuf.dev/reference/protobuf/textformat-spec/. Forks of Caffe add fields of
their own, so names are kept as they are and the layers ask for those they know.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.caffe.message import Identifier, Message, Value

# The largest networks in use have 60,000 tokens and nest five deep.
_MAX_TOKENS = 300_000
_MAX_DEPTH = 32

_TOKEN = re.compile(
    r"""(?P<space>(?:[\s;,]+|\#[^\n]*)+)
      | (?P<number>[-+]?\s*(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?)(?![\w.]))
      | (?P<name>-?[A-Za-z_]\w*)
      | (?P<string>"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"|'[^'\\\n]*+(?:\\.[^'\\\n]*+)*+')
      | (?P<extension>\[[A-Za-z_][\w./]*\])
      | (?P<mark>[:{}<>\[\]])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_NOT_FINITE = {"inf": math.inf, "inff": math.inf, "infinity": math.inf, "nan": math.nan}
_CLOSING = {"{": "}", "<": ">"}


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse_text(text: str, name: str) -> Message:
    """Return the message that ``text`` spells.

    Args:
        text: The file's text.
        name: The file's name, for errors.

    Raises:
        SmithError: The text is not in the format, or is larger or deeper than any network.
    """
    reader = _Reader(text, name)
    message = Message(name)
    while reader.peek is not None:
        reader.field(message, 0)
    return message


class _Reader:
    """A cursor over the tokens, one ahead."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self._tokens = self._scan()
        self.peek: _Token | None = next(self._tokens, None)

    def _scan(self) -> Iterator[_Token]:
        at = count = 0
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None:
                raise self._error(f"{self._text[at]!r} is unexpected", at)
            if match.lastgroup != "space":
                count += 1
                if count > _MAX_TOKENS:
                    raise SmithError(
                        f"{self._name} has more than {_MAX_TOKENS:,} words",
                        "give a network that Caffe can read",
                    )
                yield _Token(match.lastgroup or "", match[0], at)
            at = match.end()

    def _next(self) -> _Token:
        token = self.peek
        if token is None:
            raise self._error("the text ends in the middle", len(self._text))
        self.peek = next(self._tokens, None)
        return token

    def _take(self, mark: str) -> bool:
        if self.peek is not None and self.peek.kind == "mark" and self.peek.text == mark:
            self._next()
            return True
        return False

    def field(self, message: Message, depth: int) -> None:
        """Read ``name: value``, ``name { ... }`` or ``name: [ ... ]`` into ``message``."""
        token = self._next()
        if token.kind not in ("name", "extension") or token.text.startswith("-"):
            raise self._error(f"a field's name should stand where {token.text!r} does", token.at)
        has_colon = self._take(":")
        if self.peek is not None and self.peek.kind == "extension":
            # "[MAX]" reads like an extension's name, and is a list of one.
            inner = self._next()
            message.add(token.text, Identifier(inner.text[1:-1]))
        elif self._take("["):
            while not self._take("]"):
                message.add(token.text, self._value(token.text, depth, has_colon=has_colon))
        else:
            message.add(token.text, self._value(token.text, depth, has_colon=has_colon))

    def _value(self, field: str, depth: int, *, has_colon: bool) -> Value:
        token = self._next()
        if token.kind == "mark" and token.text in _CLOSING:
            return self._message(field, token, depth + 1)
        if not has_colon:
            raise self._error(f"a colon is missing after {field!r}", token.at)
        if token.kind == "number":
            return _number(token.text)
        if token.kind == "string":
            parts = [_unescape(token.text[1:-1])]
            while self.peek is not None and self.peek.kind == "string":
                parts.append(_unescape(self._next().text[1:-1]))
            return "".join(parts)
        if token.kind == "name":
            word = token.text.removeprefix("-")
            if word.lower() in _NOT_FINITE:
                value = _NOT_FINITE[word.lower()]
                return value if word == token.text else -value
            if word == token.text:
                return Identifier(word)
        raise self._error(f"a value should stand where {token.text!r} does", token.at)

    def _message(self, field: str, start: _Token, depth: int) -> Message:
        if depth > _MAX_DEPTH:
            raise self._error(f"messages nest more than {_MAX_DEPTH} deep", start.at)
        message = Message(field)
        while not self._take(_CLOSING[start.text]):
            self.field(message, depth)
        return message

    def _error(self, reason: str, at: int) -> SmithError:
        line = self._text.count("\n", 0, at) + 1
        return SmithError(
            f"{self._name} is not a network in protobuf's text format: line {line}: {reason}",
            "give the .prototxt that describes the network",
        )


def _number(text: str) -> int | float:
    text = "".join(text.split())
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    if digits[:2] in ("0x", "0X"):
        return sign * int(digits[2:18], 16)
    if digits.isdigit() and len(digits) <= 20:
        is_octal = len(digits) > 1 and digits.startswith("0") and not set(digits) & {"8", "9"}
        return sign * int(digits, 8 if is_octal else 10)
    return sign * float(digits.rstrip("fF"))


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        octal, hexadecimal, letter = match.groups()
        if octal:
            return chr(int(octal, 8))
        if hexadecimal:
            return chr(int(hexadecimal, 16))
        return _LETTERS.get(letter, letter)

    return _ESCAPE.sub(replace, text)
