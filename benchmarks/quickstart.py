"""The quickstart's figures: wall time, and int8 against float32 in accuracy and size.

Run: python benchmarks/quickstart.py
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

QUICKSTART = (
    "from onnxsmith.cli.main import run; raise SystemExit(run(['quickstart', '--out', {}]))"
)


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "quickstart")
        began = time.perf_counter()
        code = QUICKSTART.format(repr(str(out)))
        subprocess.run([sys.executable, "-P", "-c", code], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        report = json.loads((out / "report.json").read_text())
    scores = {score["model"]: score["metrics"]["accuracy"] for score in report["scores"]}
    sizes = {size["model"]: size["size_bytes"] for size in report["sizes"]}
    ratios = {ratio["candidate"]: ratio for ratio in report["speedups"]}
    drop = 100 * (scores["trained"] - scores["quantized"])
    speed = ratios["quantized"]
    print(f"quickstart: {seconds:.0f} s")
    print(
        f"accuracy: float32 {scores['trained']:.2%}, int8 {scores['quantized']:.2%}, "
        f"drop {drop:+.2f} points"
    )
    print(f"size: int8 is {sizes['trained'] / sizes['quantized']:.2f}x smaller")
    print(
        f"speed: int8 is {speed['ratio']:.2f}x as fast "
        f"(95 % interval {speed['low']:.2f} to {speed['high']:.2f})"
    )


if __name__ == "__main__":
    main()
