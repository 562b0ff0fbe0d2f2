"""How many nodes do onnxsmith and its peers leave, in what time and memory?

Prints a line for each graph and tool: nodes (Constants not counted), seconds from load to saved
file without imports, and the peak of the process. onnxsmith runs with its check, without its
latency gate, once more without its check, and once more with the operators of com.microsoft, which
onnxscript's ort_fusions and the runtime's own transformers optimizer also use: those are to be
compared among each other, all others leave standard operators, but for the runtime. Functions that
a tool leaves are inlined before nodes are counted. Each run is a process of its own; the tools take
turns. Then the geometric means of onnxsmith's ratios to the best Python peer. With ``--speed`` also
how fast the runtime runs onnxsmith's result (with the check) beside the input and beside the
quickest of the peers' results, as ``onnxsmith bench`` measures it. Run:

    python benchmarks/sources/architectures.py FOLDER    # where torch and transformers are
    python benchmarks/optimize.py FOLDER [NAME ...] --peers PYTHON [--rounds 3] [--speed 5]

PYTHON is the interpreter of an environment with onnxsim, onnxslim, onnxscript and onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import onnx
import onnx.inliner
from optimize_verdicts import HEADER, verdicts

# What the runtime's transformers optimizer is told of an architecture; it knows no others.
TYPES = {"bert": "bert", "gpt2": "gpt2", "vit_b_16": "vit", "swin_t": "swin", "llama": "gpt2"}
MEASURE = """
import json, re, sys, time
source, target = sys.argv[1:]
{imports}
start, used = time.perf_counter(), time.process_time()
{work}
# Not ru_maxrss: that of a forked process begins with its parent's.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
seconds, used = time.perf_counter() - start, time.process_time() - used
print("RESULT", json.dumps([seconds, used, peak]))
"""
OURS = """
from onnxsmith.cli.deferred import defer_imports
defer_imports()  # as the program does
import onnxruntime
from onnxsmith.cli.main import run
import rich.console, rich.table
import onnxsmith.cli.optimize, onnxsmith.pipeline.optimize, onnxsmith.pipeline.repair
from onnxsmith.passes.pipeline import PassPipeline
PassPipeline.preset("cpu")
"""
TIMED = ("onnxsmith", "onnxsmith, check off")
TOOLS = {
    "onnxsmith": (
        OURS,
        "assert run(['optimize', source, '-o', target, '--allow-slower']) == 0",
    ),
    "onnxsmith, check off": (
        OURS,
        "assert run(['optimize', source, '-o', target, '--allow-slower', '--verify', 'off']) == 0",
    ),
    "onnxsmith, com.microsoft": (
        OURS.replace('"cpu"', '"cuda"'),
        "assert run(['optimize', source, '-o', target, '--allow-slower', '--preset', 'cuda']) == 0",
    ),
    "onnxsim": (
        "import onnx, onnxsim",
        "onnx.save(onnxsim.simplify(onnx.load(source))[0], target)",
    ),
    "onnxslim": ("import onnx, onnxslim", "onnx.save(onnxslim.slim(source), target)"),
    "onnxscript": (
        "import onnx_ir, onnxscript.optimizer",
        "m = onnx_ir.load(source); onnxscript.optimizer.optimize(m); onnx_ir.save(m, target)",
    ),
    "onnxscript + ort_fusions": (
        "import onnx_ir, onnxscript.optimizer, onnxscript.rewriter.ort_fusions as fusions",
        "m = onnx_ir.load(source); onnxscript.optimizer.optimize(m)\n"
        "m, _ = fusions.optimize_for_ort(m); onnx_ir.save(m, target)",
    ),
    "ORT transformers": (
        "from onnxruntime.transformers import optimizer",
        "model_type = {types}.get(source.split('/')[-1].removesuffix('.onnx'), 'bert')\n"
        "m = optimizer.optimize_model(source, model_type=model_type, opt_level=0)\n"
        "m.save_model_to_file(target)",
    ),
    "ORT extended": (
        "import onnxruntime as ort",
        "o = ort.SessionOptions(); o.log_severity_level = 4; o.optimized_model_filepath = target\n"
        "o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED\n"
        "ort.InferenceSession(source, o, providers=['CPUExecutionProvider'])",
    ),
}


class Figures(NamedTuple):
    """What a run took: seconds, seconds of processors, and MiB at its peak."""

    seconds: float
    processor: float
    peak: float


def nodes(path: Path) -> int:
    """Count the nodes of the main graph, functions inlined, Constants left out."""
    model = onnx.load(path, load_external_data=False)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    return sum(node.op_type != "Constant" for node in model.graph.node)


def measure(tool: str, python: str, source: Path, target: Path) -> Figures | None:
    """Run a tool once; return its figures, or None where it failed."""
    imports, work = TOOLS[tool]
    work = work.replace("{types}", repr(TYPES))
    code = MEASURE.format(imports=imports, work=work)
    done = subprocess.run(
        [python, "-c", code, str(source), str(target)], capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode != 0 or not lines:
        return None
    return Figures(*json.loads(lines[-1].removeprefix("RESULT ")))


def run_tools(
    source: Path, folder: Path, tools: Sequence[str], python: str, rounds: int
) -> dict[str, Figures]:
    """Let the tools take turns; return the medians of those that succeeded."""
    runs: dict[str, list[Figures]] = {tool: [] for tool in tools}
    for _ in range(rounds):
        for tool, found in runs.items():
            interpreter = sys.executable if tool.startswith("onnxsmith") else python
            run = measure(tool, interpreter, source, folder / f"{tool}.onnx")
            if run is not None:
                found.append(run)
    return {
        tool: Figures(*(statistics.median(column) for column in zip(*found, strict=True)))
        for tool, found in runs.items()
        if found
    }


def ratios(figures: Mapping[str, Figures]) -> dict[str, float]:
    """Return onnxsmith's figures over those of the best Python peer, by what they are."""
    quick = [figures[tool] for tool in ("onnxslim", "onnxscript") if tool in figures]
    small = [figures[tool] for tool in ("onnxsim", "onnxslim", "onnxscript") if tool in figures]
    found = {}
    for tool in TIMED:
        if tool in figures and quick and small:
            ours = figures[tool]
            found[f"{tool}: seconds to the faster of OnnxSlim and onnxscript"] = ours.seconds / min(
                peer.seconds for peer in quick
            )
            found[f"{tool}: processor seconds to the lesser of OnnxSlim and onnxscript"] = (
                ours.processor / min(peer.processor for peer in quick)
            )
            found[f"{tool}: peak to the smallest of onnxsim, OnnxSlim and onnxscript"] = (
                ours.peak / min(peer.peak for peer in small)
            )
    return found


def print_means(all_ratios: Sequence[Mapping[str, float]]) -> None:
    """Print the geometric mean of each ratio over the graphs."""
    print("\n| geometric mean over the graphs | ratio |\n|---|---|")
    for words in all_ratios[0] if all_ratios else ():
        values = [found[words] for found in all_ratios if words in found]
        print(f"| {words} | {statistics.geometric_mean(values):.2f} |")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--speed", type=int, default=0, metavar="ROUNDS")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument("names", nargs="*")
    return parser.parse_args()


def main() -> None:
    """Print the tables."""
    options = parse_arguments()
    all_ratios, speeds, slower = [], [], 0
    print("| graph | tool | nodes | s | processor s | peak MiB |\n" + "|---" * 6 + "|")
    for source in sorted(options.folder.glob("*.onnx")):
        if options.names and source.stem not in options.names:
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            figures = run_tools(source, folder, options.tools, options.peers, options.rounds)
            all_ratios.append(ratios(figures))
            for tool in options.tools:
                row = "failed | | | |"
                if tool in figures:
                    seconds, processor, peak = figures[tool]
                    count = nodes(folder / f"{tool}.onnx")
                    row = f"{count} | {seconds:.2f} | {processor:.2f} | {peak:.0f} |"
                print(f"| {source.stem} | {tool} | {row}", flush=True)
            if options.speed:
                peers = {t: folder / f"{t}.onnx" for t in figures if not t.startswith("onnxsmith")}
                ours = folder / "onnxsmith.onnx"
                for line, verdict in verdicts(source, ours, peers, options.speed, options.threads):
                    print(line, flush=True)
                    speeds.append(line)
                    slower += verdict == "slower"
    print_means(all_ratios)
    if options.speed:
        print("", HEADER, *speeds, f"\n{slower} of {len(speeds)} verdicts are 'slower'", sep="\n")


if __name__ == "__main__":
    main()
