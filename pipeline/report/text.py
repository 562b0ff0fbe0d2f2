"""Strings out of models and files, made fit to be shown.

Names in a model are chosen by whoever made it: they may hold control characters, halves of
surrogate pairs, marks that turn the direction of text, or a megabyte of letters.
"""

from __future__ import annotations

import re

NAME_LIMIT = 160
TEXT_LIMIT = 600

_DIRECTION = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BREAKS = re.compile(r"[ \t\n]+")
_REPLACEMENT = "\ufffd"


def clean(text: str) -> str:
    """Replace what cannot be encoded or would disturb its surroundings."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _harmless(character) else _REPLACEMENT for character in text)


def shorten(text: str, limit: int = NAME_LIMIT) -> str:
    """Cut a long text in its middle and say how long it was; ``limit`` (40 or more) holds."""
    if len(text) <= limit:
        return clean(text)
    remark = f" ({len(text):,} characters)"
    room = limit - len(remark) - 3
    head = room * 2 // 3
    return clean(f"{text[:head]} … {text[len(text) - room + head :]}{remark}")


def one_line(text: str) -> str:
    """Put a text on one line; non-breaking spaces stay."""
    return _BREAKS.sub(" ", clean(text)).strip(" ")


def _harmless(character: str) -> bool:
    code = ord(character)
    if character in "\n\t":
        return True
    return not (
        code < 0x20
        or 0x7F <= code < 0xA0
        or 0xD800 <= code <= 0xDFFF
        or character in _DIRECTION
        or code in (0x2028, 0x2029)
    )
