"""How long does ``onnxsmith --help`` take, and what does it import?

Prints the wall time beside that of an empty Python program, both alternated, and the heavy
modules that were imported (there must be none). Run: python benchmarks/startup.py
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 15
HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "torch", "sklearn")
HELP = [sys.executable, "-P", "-c", "from onnxsmith.cli.main import run; run(['--help'])"]
EMPTY = [sys.executable, "-P", "-c", "pass"]
IMPORTED = f"""
import sys
from onnxsmith.cli.main import run
run(['--help'])
print('|'.join(m for m in {HEAVY!r} if m in sys.modules), file=sys.stderr)
"""


def seconds(command: list[str]) -> float:
    """Return the wall time of a command."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Print the figures."""
    pairs = [(seconds(HELP), seconds(EMPTY)) for _ in range(ROUNDS)]
    median = statistics.median(own for own, _ in pairs)
    ratio = statistics.median(own / empty for own, empty in pairs)
    done = subprocess.run(
        [sys.executable, "-P", "-c", IMPORTED], check=True, capture_output=True, text=True
    )
    print(f"onnxsmith --help: median {median:.3f} s, {ratio:.1f}x an empty Python program")
    print(f"heavy modules imported: {done.stderr.strip() or 'none'}")


if __name__ == "__main__":
    main()
