from pathlib import Path

import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.recipe import Recipe, load_recipe

GOOD = """
name: small
source: {path: model.onnx}
data: digits?split=train
eval_data: digits?split=test
quantize: {mode: static, max_drop: 0.005}
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_defaults_optimize_and_measure(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD))
    assert recipe.optimize is not None
    assert recipe.optimize.verify == "end"
    assert recipe.bench is not None
    assert recipe.quantize is not None
    assert recipe.quantize.max_drop == 0.005
    assert recipe.evaluate is None


def test_what_was_written_is_read_back() -> None:
    recipe = Recipe.model_validate({"name": "a", "source": {"path": "m.onnx"}})
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a recipe"),
        ("- 1", "not a recipe"),
        ("name: [", "not YAML"),
        ("name: a\nsource: {path: m}\ncolour: red", "colour: Extra inputs"),
        ("name: a", "source: Field required"),
        ("name: a\nsource: {path: m}\nquantize: {mode: int3}", "quantize.mode"),
        ("name: a\nsource: {path: m}\nquantize: {mode: static}", "needs 'data'"),
        ("name: a\nsource: {path: m}\ntrain: {}", "'train' needs 'data'"),
        ("name: a\nsource: {path: m}\ndata: digits\ntrain: {epochs: 0}", "train.epochs"),
        (
            "name: a\nsource: {path: m}\ndata: d\ntrain: {qat: true}\nquantize: {}",
            "leave 'quantize'",
        ),
        (
            "name: a\nsource: {path: m}\ndata: digits\noptimize: null\ntrain: {after: optimize}",
            "comes after 'optimize'",
        ),
        ("name: a\nsource: {path: m}\nevaluate: {}", "need 'eval_data'"),
        ("name: a\nsource: {path: m}\nbench: {rounds: 1}", "bench.rounds"),
        ("a: &x [1]\nb: *x", "aliases are not allowed"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        (b"\xff\xfe\x00", "not YAML"),
    ],
)
def test_bad_recipes_name_what_is_wrong(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(SmithError) as caught:
        load_recipe(write(tmp_path, text))
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_missing_file_and_a_huge_one(tmp_path: Path) -> None:
    with pytest.raises(SmithError, match="cannot read"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(SmithError, match="larger than 1 MiB"):
        load_recipe(write(tmp_path, b"#" * 1_100_000))
