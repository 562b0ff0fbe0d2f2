"""Time and memory of training steps that compute activations again, against those that keep them.

The networks of ``train_networks.py``, with Adam and cross-entropy, on one thread. Each side runs in
processes of its own, alternated; processor time is compared. Memory is what the process holds at
most, less what it held before the network was made.

    python benchmarks/train_recompute.py [--network encoder]... [--batch 256]... [--rounds 3]
"""

from __future__ import annotations

import argparse
import json

from sources.sides import medians, take_turns
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
    found = take_turns(__file__, SIDES, network, batch, rounds)
    line = f"{network:9} {batch:5}"
    for figure in ("ms", "mb"):
        again, kept, ratio = medians(found, "again", "kept", figure)
        line += f"  {kept:7.1f}  {again:8.1f}  {ratio:5.2f}"
    return line


if __name__ == "__main__":
    main()
