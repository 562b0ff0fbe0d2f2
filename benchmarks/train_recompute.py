"""Time and memory of training steps that compute activations again, against those that keep them.

The networks of ``train_networks.py``, with Adam and cross-entropy, on one thread. Each side runs in
processes of its own, alternated; processor time is compared. Memory is what the process holds at
most, less what it held before the network was made.

    python benchmarks/train_recompute.py [--network encoder]... [--batch 256]... [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from train_networks import NETWORKS, run_onnxsmith

SIDES = {"kept": (), "again": ("auto",)}


def main() -> None:
    """Run both sides alternated and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--batch", action="append", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    networks, batches = arguments.network or NETWORKS, arguments.batch or [32, 256]
    if arguments.side:
        print(json.dumps(run_onnxsmith(networks[0], batches[0], SIDES[arguments.side])))
        return
    print("network   batch  kept ms  again ms  ratio  kept MB  again MB  ratio")
    for network in networks:
        for batch in batches:
            print(row(network, batch, arguments.rounds), flush=True)


def row(network: str, batch: int, rounds: int) -> str:
    """Return a line of the table: medians of each side, and of the rounds' ratios."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            command = [sys.executable, __file__, "--side", side]
            command += ["--network", network, "--batch", str(batch)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
    line = f"{network:9} {batch:5}"
    for figure in ("ms", "mb"):
        kept, again = ([one[figure] for one in found[side]] for side in SIDES)
        ratio = statistics.median(b / a for a, b in zip(kept, again, strict=True))
        line += f"  {statistics.median(kept):7.1f}  {statistics.median(again):8.1f}  {ratio:5.2f}"
    return line


if __name__ == "__main__":
    main()
