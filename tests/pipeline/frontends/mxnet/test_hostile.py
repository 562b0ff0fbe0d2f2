"""Damaged and hostile files end in a model or in a SmithError, quickly and in little memory."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.mxnet.importer import Plan, build
from onnxsmith.pipeline.frontends.mxnet.inputs import find_inputs
from onnxsmith.pipeline.frontends.mxnet.source import MxnetSource
from onnxsmith.pipeline.frontends.mxnet.symbol import parse_symbol
from onnxsmith.pipeline.frontends.mxnet.table import OPERATORS

CORPUS = Path(__file__).parent / "corpus"
Node = tuple[str, str, dict[str, Any], Sequence[Any]]


def given(name: str, *shape: int, dtype: int = 0) -> Node:
    return ("null", name, {"__shape__": str(shape), "__dtype__": dtype}, [])


def weight(name: str) -> Node:
    return ("null", name, {}, [])


# Several small networks, so that each mutation is cheap and all families of operators are hit.
NETWORKS: dict[str, tuple[list[Node], list[Any], dict[str, tuple[int, ...]]]] = {
    "classify": (
        [
            given("data", 0, 3, 8, 8),
            weight("cw"),
            weight("cb"),
            ("Convolution", "conv", {"kernel": (3, 3), "pad": (1, 1), "num_group": 1}, [0, 1, 2]),
            weight("gamma"),
            weight("beta"),
            weight("mean"),
            weight("var"),
            ("BatchNorm", "bn", {"eps": "1e-3", "fix_gamma": False}, [3, 4, 5, 6, 7]),
            ("LeakyReLU", "act", {"act_type": "leaky", "slope": 0.1}, [8]),
            ("LRN", "lrn", {"nsize": 3}, [9]),
            (
                "Pooling",
                "pool",
                {
                    "kernel": (3, 3),
                    "stride": (2, 2),
                    "pool_type": "avg",
                    "pad": (1, 1),
                    "pooling_convention": "full",
                },
                [10],
            ),
            weight("fw"),
            ("FullyConnected", "fc", {"num_hidden": 5, "no_bias": True}, [11, 12]),
            weight("label"),
            ("SoftmaxOutput", "softmax", {"multi_output": False}, [13, 14]),
        ],
        [15],
        {
            "cw": (4, 3, 3, 3),
            "cb": (4,),
            "gamma": (4,),
            "beta": (4,),
            "mean": (4,),
            "var": (4,),
            "fw": (5, 100),
        },
    ),
    "shapes": (
        [
            given("x", 2, 3, 4, 5),
            ("Reshape", "r", {"shape": (0, -4, 1, 3, -3)}, [0]),
            ("transpose", "t", {"axes": (0, 2, 1, 3)}, [1]),
            ("slice", "s", {"begin": "(None, 0)", "end": "(None, 2)", "step": "(1, 1)"}, [2]),
            ("expand_dims", "e", {"axis": 1}, [3]),
            ("squeeze", "q", {"axis": 1}, [4]),
            ("tile", "tile", {"reps": (1, 2)}, [5]),
            ("repeat", "rep", {"repeats": 2, "axis": 1}, [6]),
            ("Pad", "pad", {"mode": "constant", "pad_width": (0, 0, 0, 0, 1, 1, 0, 2)}, [7]),
            ("SliceChannel", "cut", {"num_outputs": 2, "axis": 1}, [8]),
            ("stack", "st", {"axis": 0}, [(9, 0), (9, 1)]),
            ("broadcast_axis", "b", {"axis": (3,), "size": (2,)}, [10]),
            ("space_to_depth", "std", {"block_size": 2}, [0]),
            ("_full", "full", {"shape": (2, 3), "value": 2.5, "dtype": "float32"}, []),
            ("_arange", "range", {"start": 0, "stop": 7, "step": 2, "repeat": 2}, []),
            ("diag", "d", {"k": 0}, [13]),
        ],
        [9, 10, 14, 15],
        {},
    ),
    "choose": (
        [
            given("x", 0, 4, 5),
            given("at", 0, 4, dtype=4),
            weight("table"),
            ("Embedding", "emb", {"input_dim": 6, "output_dim": 3}, [1, 2]),
            ("take", "take", {"axis": 1, "mode": "wrap"}, [0, 1]),
            ("pick", "pick", {"axis": -1, "keepdims": True}, [0, 1]),
            ("one_hot", "hot", {"depth": 4, "on_value": 2}, [1]),
            ("topk", "top", {"k": 2, "axis": -1, "ret_typ": "both"}, [0]),
            ("argmax", "arg", {"axis": 1, "keepdims": True}, [0]),
            ("sum", "sum", {"axis": (0, 2), "exclude": False}, [0]),
            ("norm", "norm", {"ord": 2, "axis": 1}, [0]),
            ("SequenceMask", "mask", {"axis": 1, "value": -1}, [0]),
            ("clip", "clip", {"a_min": -1, "a_max": 1}, [0]),
            ("_power_scalar", "pow", {"scalar": 2}, [12]),
            ("broadcast_mod", "mod", {}, [13, 5]),
            ("Cast", "cast", {"dtype": "float16"}, [14]),
        ],
        [3, 4, 6, (7, 1), 8, 9, 10, 11, 15],
        {"table": (6, 3)},
    ),
    "recur": (
        [
            given("data", 5, 0, 3),
            weight("w0"),
            ("Reshape", "flat", {"shape": (-1,)}, [1]),
            weight("w1"),
            ("_rnn_param_concat", "joined", {"dim": 0, "num_args": 2}, [2, 3]),
            ("_zeros", "h", {"shape": (2, 0, 4)}, []),
            ("_zeros", "c", {"shape": (2, 0, 4)}, []),
            (
                "RNN",
                "rnn",
                {"mode": "lstm", "state_size": 4, "num_layers": 1, "bidirectional": True},
                [0, 4, 5, 6],
            ),
            ("SwapAxis", "swap", {"dim1": 0, "dim2": 1}, [7]),
            weight("lg"),
            weight("lb"),
            ("LayerNorm", "ln", {"axis": -1, "eps": 1e-5}, [8, 9, 10]),
            ("batch_dot", "dot", {"transpose_b": True}, [11, 11]),
        ],
        [12],
        {"w0": (200,), "w1": (88,), "lg": (8,), "lb": (8,)},
    ),
    "detect": (
        [
            given("x", 1, 8, 4, 4),
            ("_contrib_MultiBoxPrior", "prior", {"sizes": (0.2, 0.4), "ratios": (1, 2)}, [0]),
            given("likely", 1, 3, 48),
            given("offsets", 1, 192),
            (
                "_contrib_MultiBoxDetection",
                "det",
                {"nms_threshold": 0.5, "nms_topk": 9, "variances": (0.1, 0.1, 0.2, 0.2)},
                [2, 3, 1],
            ),
            ("_contrib_box_nms", "nms", {"id_index": 0, "coord_start": 2, "topk": 4}, [4]),
            weight("regions"),
            ("ROIPooling", "roi", {"pooled_size": (2, 2), "spatial_scale": 0.5}, [0, 6]),
            ("_contrib_BilinearResize2D", "big", {"height": 6, "width": 5}, [0]),
            ("UpSampling", "up", {"scale": 2, "sample_type": "nearest"}, [0]),
            weight("dw"),
            ("Deconvolution", "dec", {"kernel": (2, 2), "stride": (2, 2), "adj": (1, 1)}, [9, 10]),
            ("_contrib_AdaptiveAvgPooling2D", "ada", {"output_size": (3, 5)}, [0]),
        ],
        [5, 7, 8, 11, 12],
        {"regions": (2, 5), "dw": (8, 2, 2, 2)},
    ),
}


def arrays(name: str) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    shapes = NETWORKS[name][2]
    return {key: rng.uniform(0.5, 1, shape).astype(np.float32) for key, shape in shapes.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_to_be_damaged_are_whole(mxnet: Any, name: str) -> None:
    nodes, heads, _ = NETWORKS[name]
    mxnet.convert(mxnet.write(nodes, heads, arrays(name)), verify=True)


FUZZ = r"""
import json, os, random, re, resource, sys
from pathlib import Path
folder, count = Path(sys.argv[1]), int(sys.argv[2])
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.mxnet.source import MxnetSource
from onnxsmith.pipeline.frontends.convert import convert
NUMBERS = ("0", "-1", "1", "2", "3", "7", "1000000", "2147483647", "-2147483648", "99999999999",
           "1e30", "1e-30", "nan", "-inf", "0.5", "None", "True", "(", ")", "null", "[", "{", "-4",
           "-2", "-3", "16", "4096", "65536")
os.fsync = lambda file: None  # the disk is not what is tested
rng, ends = random.Random(11), {"loaded": 0, "refused": 0}
symbols = sorted(folder.glob("*-symbol.json"))
sources = [(re.findall(r"\s+|[A-Za-z_]+|[0-9]+|.", json.dumps(json.loads(p.read_text()))),
            p.with_name(p.name[:-12] + "-0000.params").read_bytes()) for p in symbols]
operators = sorted({n["op"] for p in symbols for n in json.loads(p.read_text())["nodes"]})
out = folder / "out"
out.mkdir()
for symbol in symbols:
    MxnetSource(ConvertRequest(str(symbol))).export(out)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),) * 2)

def damage_text(tokens):
    tokens = list(tokens)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(tokens))
        match rng.randint(0, 9):
            case 0: tokens[at] = rng.choice(tokens)
            case 1: del tokens[at]
            case 2: tokens.insert(at, rng.choice(tokens))
            case 3 | 4 | 5 | 6 | 7:
                numbers = [i for i, t in enumerate(tokens) if t[:1].isdigit()]
                tokens[rng.choice(numbers or [at])] = rng.choice(NUMBERS)
            case 8:
                names = [i for i, t in enumerate(tokens) if t in operators]
                tokens[rng.choice(names or [at])] = rng.choice(operators)
            case 9: tokens[at] = chr(rng.randrange(0x2000)) + tokens[at][1:]
    return "".join(tokens)

def damage_bytes(data):
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(min(len(data), rng.choice((64, 300, len(data)))))
        match rng.randint(0, 4):
            case 0: data[at] = rng.randrange(256)
            case 1: data[at] ^= 1 << rng.randrange(8)
            case 2: del data[at : at + rng.randint(1, 6)]
            case 3: data[at:at] = rng.randbytes(rng.randint(1, 6))
            case 4: data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(data)

path = folder / "mutant" / "net-symbol.json"
path.parent.mkdir()
weights = path.with_name("net-0000.params")
for number in range(count):
    tokens, data = rng.choice(sources)
    if rng.random() < 0.6:
        text = damage_text(tokens)
    else:
        text, data = "".join(tokens), damage_bytes(data)
    path.write_text(text)
    weights.write_bytes(data)
    try:
        MxnetSource(ConvertRequest(str(path))).export(out)
        ends["loaded"] += 1
        whole = True
    except SmithError as error:
        assert error.message and "\n" not in error.message, repr(error.message)
        ends["refused"] += 1
        whole = False
    if whole and number % 10 == 0:
        convert(path, verify=False)  # the checker has nothing to say about what came through
print(json.dumps(ends))
"""


def test_ten_thousand_damaged_files_raise_nothing_else(
    tmp_path: Path,
    symbol: Callable[..., str],
    params: Callable[..., bytes],
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    for name, (nodes, heads, _) in NETWORKS.items():
        (tmp_path / f"{name}-symbol.json").write_text(symbol(nodes, heads))
        (tmp_path / f"{name}-0000.params").write_bytes(params(arrays(name)))
    done = run_python(FUZZ, tmp_path, 10_000)
    assert done.returncode == 0, done.stderr[-3000:]
    ends = json.loads(done.stdout)
    assert sum(ends.values()) == 10_000
    assert min(ends.values()) > 500  # the mutations are neither all gross nor all harmless


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*-symbol.json")), ids=lambda path: path.stem)
def test_files_that_once_did_harm(path: Path, tmp_path: Path) -> None:
    with contextlib.suppress(SmithError):
        MxnetSource(ConvertRequest(str(path))).export(tmp_path)


ATTRIBUTES: tuple[dict[str, Any], ...] = (
    {
        "kernel": (1, 1), "shape": (2, 2), "dtype": "int32", "heads": 1, "N": 2, "axis": 1,
        "num_outputs": 1, "mode": "lstm", "state_size": 2, "scale": 2, "block_size": 1,
        "transform_type": "warp", "use_sequence_length": 1, "use_length": 1, "id_index": 0,
        "pooled_size": (1, 1), "height": 3, "width": 3, "depth": 3, "target_shape": (2, 2),
    },
    {
        "axis": -1, "axes": (0, 1), "transpose_a": 1, "transpose_b": 1, "act_type": "prelu",
        "sample_type": "bilinear", "use_sequence_length": 1, "global_pool": 1, "repeats": 2,
        "reps": (1, 2), "begin": (0, 1), "end": (None, None), "h_w": (1, 1), "center_crop": 1,
        "force_suppress": 1, "ret_typ": "mask", "format": "center", "mode": "like",
        "transform_type": "affine", "target_shape": (3, 3), "output_size": 2,
    },
)  # fmt: skip


def test_operators_take_inputs_of_any_number_and_rank_or_refuse(
    symbol: Callable[..., str],
) -> None:
    for op, rank, count, attrs in itertools.product(OPERATORS, range(1, 6), range(4), ATTRIBUTES):
        nodes: list[Node] = [given(f"x{at}", *(0, 2, 2, 2, 2)[:rank]) for at in range(count)]
        nodes.append((op, "it", attrs, list(range(count))))
        with contextlib.suppress(SmithError):
            plan = Plan.make(parse_symbol(symbol(nodes, [count]).encode()), {})
            build(plan, find_inputs(plan, [])[0], 20)
