"""How many nodes do onnxsmith and its peers leave, in what time and memory?

Prints a line for each graph and tool: nodes (Constants not counted), seconds from load to saved
file without imports, and the peak of the process. onnxsmith runs with its check, without its
latency gate, once more without its check, and once more with the operators of com.microsoft, which
onnxscript's ort_fusions and the runtime's own transformers optimizer also use: those are to be
compared among each other, all others leave standard operators, but for the runtime. Functions that
a tool leaves are inlined before nodes are counted. Each run is a process of its own; the tools take
turns. Run:

    python benchmarks/sources/architectures.py FOLDER    # where torch and transformers are
    python benchmarks/optimize.py FOLDER [NAME ...] --peers PYTHON [--rounds 3]

PYTHON is the interpreter of an environment with onnxsim, onnxslim, onnxscript and onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
import onnx.inliner

# What the runtime's transformers optimizer is told of an architecture; it knows no others.
TYPES = {"bert": "bert", "gpt2": "gpt2", "vit_b_16": "vit", "swin_t": "swin", "llama": "gpt2"}
MEASURE = """
import json, re, sys, time
source, target = sys.argv[1:]
{imports}
start = time.perf_counter()
{work}
# Not ru_maxrss: that of a forked process begins with its parent's.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print("RESULT", json.dumps([time.perf_counter() - start, peak]))
"""
OURS = """
from onnxsmith.cli.deferred import defer_imports
defer_imports()  # as the program does
import onnxruntime
from onnxsmith.cli.main import run
import onnxsmith.cli.optimize, onnxsmith.pipeline.optimize
from onnxsmith.passes.pipeline import PassPipeline
PassPipeline.preset("cpu")
"""
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


def nodes(path: Path) -> int:
    """Count the nodes of the main graph, functions inlined, Constants left out."""
    model = onnx.load(path, load_external_data=False)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    return sum(node.op_type != "Constant" for node in model.graph.node)


def measure(tool: str, python: str, source: Path, target: Path) -> tuple[float, float] | None:
    """Run a tool once; return seconds and peak MiB, or None where it failed."""
    imports, work = TOOLS[tool]
    work = work.replace("{types}", repr(TYPES))
    code = MEASURE.format(imports=imports, work=work)
    done = subprocess.run(
        [python, "-c", code, str(source), str(target)], capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode != 0 or not lines:
        return None
    seconds, peak = json.loads(lines[-1].removeprefix("RESULT "))
    return seconds, peak


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    print("| graph | tool | nodes | s | peak MiB |\n|---|---|---|---|---|")
    for source in sorted(options.folder.glob("*.onnx")):
        if options.names and source.stem not in options.names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            runs: dict[str, list[tuple[float, float] | None]] = {tool: [] for tool in TOOLS}
            for _ in range(options.rounds):
                for tool, found in runs.items():
                    python = sys.executable if tool.startswith("onnxsmith") else options.peers
                    found.append(measure(tool, python, source, Path(folder, f"{tool}.onnx")))
            for tool, found in runs.items():
                good = [run for run in found if run is not None]
                if not good:
                    print(f"| {source.stem} | {tool} | failed | | |", flush=True)
                    continue
                seconds, peak = (statistics.median(column) for column in zip(*good, strict=True))
                count = nodes(Path(folder, f"{tool}.onnx"))
                line = f"| {source.stem} | {tool} | {count} | {seconds:.2f} | {peak:.0f} |"
                print(line, flush=True)


if __name__ == "__main__":
    main()
