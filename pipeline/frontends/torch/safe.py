"""Keep ``torch.export.load`` from running what a file says.

On its own it falls back to full pickles, and it reads sizes with sympy, which evaluates Python.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator
from typing import Any

import sympy  # type: ignore[import-untyped]  # it has no stubs
import torch

# What torch writes for a size: sympy's srepr, e.g. Add(Symbol('s77', integer=True), Integer(1)).
_CALLS = frozenset((
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "Abs",
    "floor", "ceiling", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv",
    "CeilToInt", "FloorToInt", "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow",
    "FloatTrueDiv", "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "RoundToInt",
    "RoundDecimal", "ToFloat", "TruncToInt", "TruncToFloat", "Identity", "Equality",
    "Unequality", "StrictLessThan", "StrictGreaterThan", "LessThan", "GreaterThan", "Eq", "Ne",
    "Lt", "Le", "Gt", "Ge", "And", "Or", "Not",
))  # fmt: skip
_NODES = (
    ast.Load, ast.keyword, ast.operator, ast.unaryop, ast.cmpop,
    ast.BinOp, ast.UnaryOp, ast.Compare,
)  # fmt: skip
# Sympy evaluates text given to anything but these two, so text stands nowhere else.
_TEXTS = {"Symbol": re.compile(r"[A-Za-z]\w*"), "Float": re.compile(r"-?[0-9.]+(e[+-]?[0-9]+)?")}


class RunsCodeError(BaseException):
    """What a file holds that would run code; no Exception, so that torch cannot fall back on it."""


@contextlib.contextmanager
def without_code() -> Iterator[None]:
    """Refuse pickled objects, and expressions that are no sizes, while torch loads a program.

    Raises:
        RunsCodeError: The file holds one.
    """
    load, sympify = torch.load, sympy.sympify

    def load_weights(file: Any, *, weights_only: bool = True) -> Any:
        if not weights_only:
            raise RunsCodeError("a pickled object")
        return load(file, weights_only=True)

    def read_size(text: Any, locals: Any = None) -> Any:
        if isinstance(text, str) and not is_size(text):
            raise RunsCodeError("an expression that is no size")
        return sympify(text, locals=locals)

    # Replaced for the moment: the loader offers no way to refuse code.
    torch.load = load_weights  # type: ignore[assignment]  # takes only what the loader passes
    sympy.sympify = read_size
    try:
        yield
    finally:
        torch.load, sympy.sympify = load, sympify


def is_size(text: str) -> bool:
    """Return whether an expression is arithmetic of sizes and nothing else."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return _is_plain(tree.body, tree)


def _is_plain(node: ast.AST, parent: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        if not isinstance(node.value, str):
            return isinstance(node.value, (int, float)) or node.value is None
        name = parent.func.id if isinstance(parent, ast.Call) else ""  # type: ignore[attr-defined]  # calls of other than names were refused above
        return name in _TEXTS and _TEXTS[name].fullmatch(node.value) is not None
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id not in _CALLS:
            return False
        return all(_is_plain(child, node) for child in (*node.args, *node.keywords))
    if isinstance(node, ast.Name):
        return not node.id.startswith("_")
    if not isinstance(node, _NODES):
        return False
    return all(_is_plain(child, node) for child in ast.iter_child_nodes(node))
