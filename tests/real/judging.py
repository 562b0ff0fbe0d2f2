"""Judge ``onnxsmith optimize`` on folders of graphs: does anything come out wrong?

    python -P tests/real/judging.py FOLDER... [--presets safe,cpu] [--verify off,end] [-v]

For every graph that the runtime loads and runs (its optimizations off) on stored inputs or on made
up ones, each preset is run through the command line, and the file that it wrote is run on the same
inputs. Verdicts: ``same``; ``wrong`` (other values, shapes, types or names); ``invalid`` (the
runtime refuses the result, or onnx's checker does where it took the input); ``refused`` (no file);
``dropped`` (a pass was rolled back); ``crash`` (the process died); and, counted but no fault,
``moving`` (optimizing the result again gives other bytes).

The folder ``onnx`` stands for the node tests of the installed onnx package.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import numpy_helper

from onnxsmith.cli.main import run as run_program
from onnxsmith.numerics import Tolerance, compare_value
from onnxsmith.passes.randomness import random_outputs
from onnxsmith.runtime.values import dense, needs_raw, run_raw

PRESETS = ("safe", "cpu", "cuda", "tensorrt", "edge")
VERIFY = ("off", "end")
FAULTS = ("wrong", "invalid", "refused", "dropped", "crash")

_NUMPY = {
    "float": np.float32, "double": np.float64, "float16": np.float16, "bool": np.bool_,
    **{f"{sign}int{bits}": np.dtype(f"{sign}int{bits}").type
       for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
_MAX_ELEMENTS = 5e7
# Rewrites may reorder sums; graphs may compute in float16 on the way to a float32 output.
_TOLERANCE = Tolerance(2e-3, 2e-4)
_RUNS = 4  # on equal inputs: outputs that vary are not compared
_WORKER_SECONDS = 3600


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a collection; return the folder that holds it."""
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder


def write_node_tests(folder: Path) -> Path:
    """Write onnx's node tests as files, each with the inputs of its first data set."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # some cases overflow on purpose
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    for case in cases:
        assert case.model is not None  # node tests are made in memory
        inputs = folder / case.name / "test_data_set_0"
        inputs.mkdir(parents=True)
        onnx.save(case.model, inputs.parent / "model.onnx")
        values = case.data_sets[0][0] if case.data_sets else ()
        for place, (value, info) in enumerate(zip(values, case.model.graph.input, strict=False)):
            data = _to_proto(value, info.type)
            if data is not None:
                (inputs / f"input_{place}.pb").write_bytes(data.SerializeToString())
    return folder


def _to_proto(value: Any, kind: onnx.TypeProto) -> Any:
    if isinstance(value, onnx.TensorProto):
        return value
    if kind.HasField("sequence_type"):
        return numpy_helper.from_list(list(value))
    if kind.HasField("optional_type"):
        return numpy_helper.from_optional(value) if value is not None else None
    return numpy_helper.from_array(np.asarray(value))


def graphs_in(folder: Path) -> list[Path]:
    """Return the graphs of a folder in a fixed order."""
    return sorted(folder.rglob("*.onnx"))


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Return about ``count`` of the paths, spread evenly over the whole list."""
    step = max(1, len(paths) // count)
    return list(paths[::step])


def judge(
    paths: Sequence[Path], presets: Sequence[str] = PRESETS, verify: Sequence[str] = VERIFY
) -> dict[Path, dict[str, str]]:
    """Return for each usable graph its verdict by ``preset/verify``; ``same`` or what is wrong.

    The work is done in processes of their own: a graph that takes one down is a ``crash``.
    """
    found: dict[Path, dict[str, str]] = {}
    left = list(paths)
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder, "lines")
        while left:
            listing = Path(folder, "list")
            listing.write_text(json.dumps([[str(p) for p in left], list(presets), list(verify)]))
            lines.write_text("")
            command = [sys.executable, "-P", __file__, "--worker", str(listing), str(lines)]
            subprocess.run(command, check=False, capture_output=True, timeout=_WORKER_SECONDS)
            done = _read(lines, found)
            if not done:
                raise RuntimeError(f"the worker did not begin: {' '.join(command)}")
            left = [path for path in left if path not in done]
    return found


def _read(lines: Path, found: dict[Path, dict[str, str]]) -> set[Path]:
    """Take a worker's verdicts over; a graph that began and did not end is a crash."""
    began, ended, current = set(), set(), ""
    for line in lines.read_text().splitlines():
        text, event, *rest = json.loads(line)
        path = Path(text)
        began.add(path)
        if event == "usable":
            found[path] = {}
        elif event == "judging":
            current = rest[0]
        elif event == "verdict":
            found[path][rest[0]] = rest[1]
        elif event == "end":
            ended.add(path)
    for path in began - ended:
        if path in found:  # else the reference died
            found[path][current] = "crash"
    return began


def work(listing: Path, lines: Path) -> None:
    """Judge the listed graphs and write a line for each event."""
    names, presets, verify = json.loads(listing.read_text())
    with lines.open("a") as file:

        def tell(*words: str) -> None:
            file.write(json.dumps(words) + "\n")
            file.flush()

        for name in names:
            tell(name, "begin")
            with contextlib.suppress(Exception):  # not usable: no fault of ours
                _judge_one(Path(name), presets, verify, tell)
            tell(name, "end")


def _judge_one(path: Path, presets: Sequence[str], verify: Sequence[str], tell: Any) -> None:
    with _session(path) as session:
        feeds = _inputs(path, session)
        expected, *more = (_run(session, feeds) for _ in range(_RUNS))
    varying = random_outputs(ir.load(path))
    stable = {
        name
        for name, value in expected.items()
        if name not in varying
        and all(compare_value(name, value, again[name]).max_abs == 0.0 for again in more)
    }
    tell(str(path), "usable")
    valid = _is_valid(path)
    for preset in presets:
        for mode in verify:
            tell(str(path), "judging", f"{preset}/{mode}")
            with tempfile.TemporaryDirectory() as folder:
                verdict = _verdict(path, Path(folder), preset, mode)
                if not verdict:
                    target = Path(folder, "out.onnx")
                    verdict = _compare(target, feeds, expected, stable)
                    # cuda writes operators of the runtime that it registers among ONNX's own.
                    if not verdict and valid and preset != "cuda" and not _is_valid(target):
                        verdict = "invalid: onnx's checker takes the input only"
                    if not verdict and mode == "off":
                        verdict = _moving(target, preset)
            tell(str(path), "verdict", f"{preset}/{mode}", verdict or "same")


def _verdict(path: Path, folder: Path, preset: str, mode: str) -> str:
    code, words = _optimize(path, folder / "out.onnx", preset, mode)
    if code == 3:
        return f"dropped: {words}"
    return "" if code == 0 else f"refused: exit {code}: {words}"


def _moving(once: Path, preset: str) -> str:
    """Say whether a second run still changes the file; its history aside, which it may extend."""
    twice = once.with_name("twice.onnx")
    code, words = _optimize(once, twice, preset, "off")
    if code:
        return f"refused: exit {code} the second time: {words}"
    return "" if once.read_bytes() == twice.read_bytes() else "moving: other bytes"


def _optimize(path: Path, target: Path, preset: str, mode: str) -> tuple[int, str]:
    said = io.StringIO()
    command = ["optimize", path, "-o", target, "--allow-slower", "--threads", 1]
    command += ["--preset", preset, "--verify", mode]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run_program([str(word) for word in command])
    return code, " ".join(said.getvalue().split())[-400:]


def _compare(path: Path, feeds: dict[str, Any], expected: dict[str, Any], stable: set[str]) -> str:
    try:
        with _session(path) as session:
            names = {value.name for value in session.get_inputs()}
            found = _run(session, {k: v for k, v in feeds.items() if k in names})
    except Exception as error:  # noqa: BLE001 - the runtime's errors have no common base
        return f"invalid: {' '.join(str(error).split())[:300]}"
    if list(found) != list(expected):
        return f"wrong: outputs {list(found)} instead of {list(expected)}"
    for name in expected:
        difference = compare_value(name, expected[name], found[name], _TOLERANCE)
        if name in stable and not difference.ok:
            return f"wrong: {name}: {difference.reason}"
    return ""


def _is_valid(path: Path) -> bool:
    try:
        onnx.checker.check_model(str(path))
    except Exception:  # noqa: BLE001 - the checker's errors have no common base
        return False
    return True


@contextlib.contextmanager
def _session(path: Path) -> Iterator[ort.InferenceSession]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    yield ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, feeds: dict[str, Any]) -> dict[str, Any]:
    names = [value.name for value in session.get_outputs()]
    kinds = [value.type for value in (*session.get_inputs(), *session.get_outputs())]
    raw = any(needs_raw(_element(kind).replace("float8e", "float8_e")) for kind in kinds)
    values = run_raw(session, names, feeds) if raw else session.run(names, feeds)
    return dict(zip(names, map(dense, values), strict=True))


def _element(kind: str) -> str:
    return kind.removeprefix("tensor(").removesuffix(")")


def _inputs(path: Path, session: ort.InferenceSession) -> dict[str, Any]:
    """Return the stored inputs, or seeded ones.

    Raises:
        ValueError: Neither is possible.
    """
    stored = path.parent / "test_data_set_0"
    if stored.is_dir():
        return {
            value.name: _stored(stored / f"input_{place}.pb", value.type)
            for place, value in enumerate(session.get_inputs())
        }
    rng = np.random.default_rng(0)
    return {value.name: _made_up(rng, value) for value in session.get_inputs()}


def _stored(path: Path, kind: str) -> Any:
    if not path.exists() and kind.startswith("optional"):
        return None
    data = path.read_bytes()
    if kind.startswith("seq"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.startswith("optional"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def _made_up(rng: np.random.Generator, value: Any) -> Any:
    kind = _element(value.type)
    shape = [size if isinstance(size, int) and size >= 0 else 2 for size in value.shape or ()]
    if kind == "string":
        return np.full(shape, "text", dtype=object)
    if kind not in _NUMPY or np.prod(shape, dtype=np.float64) > _MAX_ELEMENTS:
        raise ValueError(f"cannot make up {value}")
    dtype = _NUMPY[kind]
    if np.issubdtype(dtype, np.floating):
        return np.asarray(rng.standard_normal(shape)).astype(dtype)
    return np.asarray(rng.integers(0, 2, shape)).astype(dtype)


def counts(verdicts: dict[Path, dict[str, str]]) -> dict[str, Counter[str]]:
    """Count the verdicts by configuration."""
    found: dict[str, Counter[str]] = {}
    for verdict in verdicts.values():
        for configuration, words in verdict.items():
            found.setdefault(configuration, Counter())[words.partition(":")[0]] += 1
    return found


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main() -> int:
    """Print the counts; the exit code says whether there is any fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", help="folders or .tar.gz archives; onnx: node tests")
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--verify", default=",".join(VERIFY))
    parser.add_argument("--count", type=int, help="only about so many, spread over the collection")
    parser.add_argument("-v", "--verbose", action="store_true", help="name every fault")
    chosen = parser.parse_args()
    faulty = False
    for name in chosen.folders:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(name)
            if name == "onnx":
                folder = write_node_tests(Path(made))
            elif folder.is_file():
                folder = unpack(folder, Path(made))
            paths = graphs_in(folder)
            paths = spread(paths, chosen.count) if chosen.count else paths
            verdicts = judge(paths, chosen.presets.split(","), chosen.verify.split(","))
            _say(f"{name}: {len(paths)} graphs, {len(verdicts)} usable")
            for configuration, found in counts(verdicts).items():
                words = ", ".join(f"{found[kind]} {kind}" for kind in ("same", "moving", *FAULTS))
                _say(f"  {configuration:14} {words}")
                faulty |= any(found[kind] for kind in FAULTS)
            for path, verdict in verdicts.items() if chosen.verbose else ():
                for configuration, words in verdict.items():
                    if words != "same":
                        _say(f"    {path.relative_to(folder)} [{configuration}] {words}")
    return int(faulty)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(main())
