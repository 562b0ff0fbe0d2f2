"""-symbol.json files of all versions, their attributes, and what is said about damaged ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.mxnet.attributes import Attributes
from onnxsmith.pipeline.frontends.mxnet.symbol import Symbol, parse_symbol, read_symbol
from onnxsmith.pipeline.frontends.mxnet.table import OPERATORS

NODES: list[Any] = [
    ("null", "data", {}, []),
    ("null", "fc_weight", {}, []),
    ("null", "fc_bias", {}, []),
    ("FullyConnected", "fc", {"num_hidden": 3}, [0, 1, 2]),
]


def parse(text: str | bytes) -> Symbol:
    return parse_symbol(text.encode() if isinstance(text, str) else text)


# MXNet's versions and the key that holds attributes in their files.
@pytest.mark.parametrize(
    ("version", "key"),
    [
        (None, "param"),
        (None, "attr"),
        (905, "attr"),
        (1100, "attrs"),
        (10600, "attrs"),
        (10901, "attrs"),
    ],
)
def test_every_version_says_the_same(
    mxnet: Any, close: Any, symbol: Callable[..., str], version: int | None, key: str
) -> None:
    found = parse(symbol(NODES, [3], version=version, key=key))
    assert found.version == (800 if version is None else version)
    assert [str(node) for node in found.nodes][3] == "the node 'fc' (FullyConnected)"
    assert found.nodes[3].attrs == {"num_hidden": "3"}
    assert found.nodes[3].inputs == ((0, 0), (1, 0), (2, 0))
    assert [node.is_variable for node in found.nodes] == [True, True, True, False]
    weights = {"fc_weight": np.eye(3, 4, dtype=np.float32), "fc_bias": np.ones(3, np.float32)}
    path = mxnet.write(NODES, [3], weights, version=version, key=key)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    close(mxnet.run(path, {"data": x})["fc_output"], x[:, :3] + 1)


# As MXNet 0.5 wrote it: "param" beside "attr", pairs without a version, "backward_source_id".
OLDEST = """{
  "nodes": [
    {"op": "null", "param": {}, "name": "data", "inputs": [], "backward_source_id": -1},
    {"op": "null", "param": {}, "name": "fc1_weight", "inputs": [], "backward_source_id": -1,
     "attr": {"lr_mult": "0.1", "ctx_group": "a"}},
    {"op": "FullyConnected", "param": {"no_bias": "True", "num_hidden": "2"}, "name": "fc1",
     "inputs": [[0, 0], [1, 0]], "backward_source_id": -1,
     "attr": {"ctx_group": "stage1", "fc1_weight_lr_mult": "1.2", "__wd_mult__": "0"}},
    {"op": "null", "param": {}, "name": "softmax_label", "inputs": [], "backward_source_id": -1},
    {"op": "SoftmaxOutput", "param": {"grad_scale": "1", "multi_output": "False"},
     "name": "softmax", "inputs": [[2, 0], [3, 0]], "backward_source_id": -1}
  ],
  "arg_nodes": [0, 1, 3],
  "heads": [[4, 0]]
}"""


def test_the_oldest_files(mxnet: Any, params: Any, tmp_path: Path, close: Any) -> None:
    found = parse(OLDEST)
    assert found.nodes[2].attrs == {"no_bias": "True", "num_hidden": "2"}
    assert found.nodes[2].hints == {"__wd_mult__": "0"}
    path = tmp_path / "old-symbol.json"
    path.write_text(OLDEST)
    weight = np.array([[1, 2, 0], [0, 1, -1]], np.float32)
    (tmp_path / "old-0012.params").write_bytes(params({"fc1_weight": weight}, "v0"))
    x = np.array([[1, 0, 0.5]], np.float32)
    logits = x @ weight.T
    (prob,) = mxnet.run(path, {"data": x}).values()
    close(prob, np.exp(logits) / np.exp(logits).sum())


def test_the_axis_of_old_extremes(mxnet: Any) -> None:
    """Before 0.9.5 axis -1 meant all values."""
    x = np.array([[1, 9, 3], [4, 5, 6]], np.float32)
    nodes: list[Any] = [("null", "x", {}, []), ("argmax", "it", {"axis": -1}, [0])]
    (old,) = mxnet.run(mxnet.write(nodes, [1], {}, version=903), {"x": x}).values()
    (new,) = mxnet.run(mxnet.write(nodes, [1], {}, version=905), {"x": x}).values()
    np.testing.assert_array_equal(old, [1])
    np.testing.assert_array_equal(new, [1, 2])


def test_only_what_the_outputs_need_is_imported(mxnet: Any) -> None:
    nodes: list[Any] = [
        ("null", "x", {}, []),
        ("Custom", "unused", {"op_type": "mine"}, [0]),
        ("relu", "y", {}, [0]),
    ]
    result = mxnet.convert(mxnet.write(nodes, [2], {}), inputs=["x:float32[batch,3]"])
    assert [node.op_type for node in result.artifact.model.graph] == ["Relu"]


def test_long_chains_are_walked(mxnet: Any) -> None:
    nodes: list[Any] = [("null", "x", {}, [])]
    nodes += [("relu", f"r{at}", {}, [at]) for at in range(1500)]
    result = mxnet.convert(mxnet.write(nodes, [1500], {}), inputs=["x:float32[2]"])
    assert len(list(result.artifact.model.graph)) == 1500


def edited(symbol: Callable[..., str], edit: Callable[[Any], Any]) -> str:
    values = json.loads(symbol(NODES, [3]))
    edit(values)
    return json.dumps(values)


EDITS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "no nodes": (lambda v: v.pop("nodes"), "no graph of MXNet"),
    "no heads": (lambda v: v.pop("heads"), "no graph of MXNet"),
    "empty heads": (lambda v: v.update(heads=[]), "it has no outputs"),
    "nodes no list": (lambda v: v.update(nodes={}), "nodes: a list is missing"),
    "node no dict": (lambda v: v["nodes"].insert(0, 3), "node 0 is a int"),
    "no op": (lambda v: v["nodes"][1].pop("op"), "node 1 has no operator or no name"),
    "name no text": (lambda v: v["nodes"][1].update(name=[]), "node 1 has no operator or no"),
    "attrs no dict": (lambda v: v["nodes"][3].update(attrs=[1]), "attributes of node 3 are a list"),
    "attr no text": (
        lambda v: v["nodes"][3].update(attrs={"a": {}}),
        "attribute 'a' of node 3 is no text",
    ),
    "input outside": (
        lambda v: v["nodes"][3]["inputs"].append([9, 0, 0]),
        "node 3 names node 9, but there are 4",
    ),
    "input negative": (
        lambda v: v["nodes"][3]["inputs"].append([-1, 0, 0]),
        "node 3 names node -1",
    ),
    "input huge": (
        lambda v: v["heads"].append([10**30, 0]),
        "the outputs names node too large",
    ),
    "input no pair": (lambda v: v["nodes"][3].update(inputs=[3]), "node 3: a list is missing"),
    "input short": (lambda v: v["nodes"][3].update(inputs=[[3]]), "is not a node and a number"),
    "input true": (lambda v: v["nodes"][3].update(inputs=[[True, 0]]), "is not a node and"),
    "output huge": (lambda v: v.update(heads=[[3, 2**40]]), "the outputs names output"),
    "cycle": (
        lambda v: v["nodes"][3].update(inputs=[[3, 0, 0]]),
        r"the node 'fc' \(FullyConnected\) takes part in a cycle",
    ),
    "subgraph": (
        lambda v: v["nodes"][3].update(subgraphs=[{}], op="_foreach"),
        r"the node 'fc' \(_foreach\) holds a graph of its own, which cannot be imported",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_damaged_graphs(symbol: Callable[..., str], name: str) -> None:
    edit, message = EDITS[name]
    with pytest.raises(SmithError, match=message):
        parse(edited(symbol, edit)).order({})


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b'{"nodes": [', b"[" * 200_000, b"9" * 5000, b"nan"],
)
def test_what_is_no_json(text: bytes) -> None:
    with pytest.raises(SmithError, match=r"it is not JSON|no graph of MXNet"):
        parse(text)


def test_truncation_at_every_byte(symbol: Callable[..., str]) -> None:
    text = symbol(NODES, [3])
    for end in range(len(text)):
        with pytest.raises(SmithError):
            parse(text[:end])


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SmithError, match="No such file"):
        read_symbol(tmp_path / "missing-symbol.json")
    with pytest.raises(SmithError, match="is not a regular file"):
        read_symbol(tmp_path)
    large = tmp_path / "large-symbol.json"
    with large.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(SmithError, match="more than a graph of MXNet takes"):
        read_symbol(large)
    text = tmp_path / "text-symbol.json"
    text.write_text("hello")
    with pytest.raises(SmithError, match=rf"{re.escape(str(text))}: it is not JSON"):
        read_symbol(text)


def attributes(text: str) -> Attributes:
    return Attributes({"a": text}, "the node 'n' (Op)")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("(3, 4)", (3, 4)),
        ("[3,4]", (3, 4)),
        ("3", (3,)),
        ("(3L, 4L)", (3, 4)),
        ("(3,)", (3,)),
        ("()", ()),
        ("(2.0, -1)", (2, -1)),
        ("None", ()),
        (" ( 1 , 2 ) ", (1, 2)),
    ],
)
def test_tuples(text: str, numbers: tuple[int, ...]) -> None:
    assert attributes(text).integers("a") == numbers


def test_other_attributes() -> None:
    for text, value in {"True": True, "true": True, "1": True, "False": False, "0": False}.items():
        assert attributes(text).flag("a", not value) is value
    assert attributes("None").flag("a", True) is True
    assert attributes("1e-3").number("a", 0) == 1e-3
    assert attributes("(0.1, 0.2)").numbers("a") == (0.1, 0.2)
    assert attributes("(None, 2)").optional_integers("a") == (None, 2)
    assert str(attributes("2").dtype("a", None)) == str(attributes("float16").dtype("a", None))  # type: ignore[arg-type]
    assert attributes("7").bounded("a", 0, 1, 9) == 7
    assert attributes("x").text("b", "default") == "default"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attributes("maybe").flag("a", True), "a='maybe' is neither True nor False"),
        (lambda: attributes("x").number("a", 1), "a='x' is not a number"),
        (lambda: attributes("9" * 100).number("a", 1), "is not a number"),
        (lambda: attributes("(1, x)").integers("a"), "a='x' is not a whole number"),
        (lambda: attributes("1.5").integer("a", 1), "a='1.5' is not a whole number"),
        (lambda: attributes("9" * 30).integer("a", 1), "is not a whole number"),
        (lambda: attributes("inf").integer("a", 1), "is not a whole number"),
        (lambda: attributes("nan").integer("a", 1), "is not a whole number"),
        (lambda: attributes("(a, b)").numbers("a"), "are not numbers"),
        (lambda: attributes("1," * 5000).integers("a"), "a has more than 4096 items"),
        (lambda: attributes("x").text("a", "", ("y", "z")), "a='x' is none of y, z"),
        (lambda: attributes("11").bounded("a", 0, 1, 9), "a=11 is not within 1 to 9"),
    ],
)
def test_attributes_that_are_wrong(call: Callable[[], object], message: str) -> None:
    with pytest.raises(SmithError, match=message) as caught:
        call()
    assert caught.value.message.startswith("the node 'n' (Op): ")


def test_every_operator_is_tried_somewhere() -> None:
    """The names in the table occur in this folder's tests, spelled out or put together."""
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    words = set(re.findall(r"\w+", text))
    pairs = r"_?(r|R|broadcast_|elemwise_)?[A-Za-z_]+?(_scalar|Scalar)?"
    made = re.compile(rf"^({pairs})$")
    binary = (
        "plus minus mul div mod power maximum minimum hypot equal greater lesser logical add sub"
    )
    lost = [
        name
        for name in OPERATORS
        if name not in words
        and not (made.match(name) and any(word in name.lower() for word in binary.split()))
        and name.removeprefix("_npx_") not in words
        and name.removeprefix("_contrib_interleaved_matmul_").removesuffix("_qk") not in words
        and not name.startswith(("_contrib_interleaved_matmul_", "_linalg_", "linalg_"))
    ]
    assert not lost
