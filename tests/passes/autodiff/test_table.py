"""Every standard operator is differentiated, refused with a reason, or has no gradient."""

from __future__ import annotations

import importlib

import onnx
import pytest

from onnxsmith.passes.autodiff.table import CONSTANT, REFUSED, RULES

SOURCES = {"Constant", "ImageDecoder", "SequenceEmpty", "TfIdfVectorizer"}
"""Operators that no parameter leads to: they have no input of floats."""

NAMES = sorted({schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain})


def _gives_floats(schema: onnx.defs.OpSchema) -> bool:
    kinds = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return any(
        "float" in kind for o in schema.outputs for kind in kinds.get(o.type_str, [o.type_str])
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_operator_is_accounted_for(name: str) -> None:
    schema = onnx.defs.get_schema(name)
    places = [name in table for table in (RULES, CONSTANT, REFUSED, SOURCES)]
    body = schema.has_function or schema.has_context_dependent_function
    if schema.deprecated or not _gives_floats(schema) or body:
        assert sum(places) <= 1
    else:
        assert sum(places) == 1


def test_no_table_names_what_is_not_there() -> None:
    assert {*RULES, *CONSTANT, *REFUSED, *SOURCES} <= set(NAMES)


@pytest.mark.parametrize("row", RULES.values())
def test_every_rule_is_there_and_says_what_it_does(row: str) -> None:
    module, _, function = row.partition(":")
    home = importlib.import_module(f"onnxsmith.passes.autodiff.rules.{module}")
    assert getattr(home, function).__doc__


def test_refusals_give_a_reason() -> None:
    assert all(len(reason) > 15 for reason in REFUSED.values())
