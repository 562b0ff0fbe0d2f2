"""Peak memory of ``onnxsmith convert`` on a Llama-like PyTorch model, check on.

The weights are random and lie in a safetensors file, as a model's that was downloaded, or are made
by the callable (``--made``). Every 50 ms the memory of all processes of the conversion is added
up: what is theirs alone (anonymous and shared memory), and what they map from files, each page
once (PSS); the system can drop the second. Prints the peaks over the size of the weights.
Run: python benchmarks/convert_memory.py [--gigabytes 3.2] [--made]. The default is 0.7 GB.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

MODEL = """
import torch
from torch import nn

WIDTH, LAYERS, HEADS, VOCABULARY = {width}, {layers}, 16, 32000


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda inside, out: nn.Linear(inside, out, bias=False)
        self.q, self.k, self.v, self.o = (linear(WIDTH, WIDTH) for _ in range(4))
        self.gate, self.up = linear(WIDTH, 11 * WIDTH // 4), linear(WIDTH, 11 * WIDTH // 4)
        self.down = linear(11 * WIDTH // 4, WIDTH)
        self.before, self.after = Norm(), Norm()

    def forward(self, x, cos, sin):
        batch, time, _ = x.shape
        y = self.before(x)
        q, k, v = (
            part(y).view(batch, time, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        q, k = (part * cos + turned(part) * sin for part in (q, k))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(batch, time, WIDTH))
        y = self.after(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


def turned(x):
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = Norm()
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, ids):
        half = WIDTH // HEADS // 2
        rates = 10000.0 ** (-torch.arange(half) / half)
        angles = torch.arange(ids.shape[1])[:, None] * rates
        angles = torch.cat((angles, angles), dim=-1)
        x = self.table(ids)
        for block in self.blocks:
            x = block(x, angles.cos(), angles.sin())
        return self.head(self.norm(x))


def made():
    torch.manual_seed(0)
    return Llama()


def empty():
    with torch.device("meta"):
        return Llama()
"""


@dataclass
class Peak:
    """The most that the processes of one conversion held, in bytes, and their number."""

    own: int = 0
    mapped: int = 0
    total: int = 0
    processes: dict[int, int] = field(default_factory=dict)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=0.7)
    parser.add_argument("--made", action="store_true", help="weights made by the callable")
    options = parser.parse_args()
    width = 2048 if options.gigabytes > 1 else 1024
    tables = 2 * 32000 * width * 4
    block = (4 + 3 * 11 / 4) * width * width * 4
    layers = max(1, round((options.gigabytes * 1e9 - tables) / block))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "llama.py").write_text(MODEL.format(width=width, layers=layers))
        size = prepare(folder)
        command = ["-m", "onnxsmith", "convert", "llama:made", "-o", "out.onnx"]
        if not options.made:
            command[3:4] = ["llama:empty", "--weights", "weights.safetensors"]
        command += ["--input", "ids:int64[batch,time]"]
        began = time.perf_counter()
        peak, code = watch([sys.executable, "-P", *command], folder)
        seconds = time.perf_counter() - began
        if code:
            raise SystemExit(f"onnxsmith failed with exit code {code}")
        written = sum(path.stat().st_size for path in folder.glob("out*"))
    print(f"weights {size / 1e9:.2f} GB, {layers} layers; ONNX files {written / 1e9:.2f} GB")
    print(
        f"{seconds:.0f} s; peak of a process: {[f'{v / 1e9:.2f}' for v in peak.processes.values()]}"
    )
    if options.made:
        print(
            f"own memory {peak.own / 1e9:.2f} GB, {(peak.own - size) / 1e9:.2f} beyond the weights"
        )
    else:
        print(f"own memory {peak.own / 1e9:.2f} GB; the weights stay mapped")
    print(f"with mapped files {peak.total / 1e9:.2f} GB ({peak.total / size:.2f}x the weights)")


def prepare(folder: Path) -> int:
    """Write the weights in a process of its own, and return their size in bytes."""
    code = (
        "import json, struct, torch, llama\n"
        "state = llama.made().state_dict(); header = {}; at = 0\n"
        "for name, tensor in state.items():\n"
        "    header[name] = {'dtype': 'F32', 'shape': list(tensor.shape),\n"
        "                    'data_offsets': [at, at + tensor.nbytes]}\n"
        "    at += tensor.nbytes\n"
        "text = json.dumps(header).encode(); text += b' ' * (-len(text) % 8)\n"
        "with open('weights.safetensors', 'wb') as file:\n"
        "    file.write(struct.pack('<Q', len(text)) + text)\n"
        "    for tensor in state.values(): tensor.numpy().tofile(file)\n"
        "print(at)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def watch(command: list[str], folder: Path) -> tuple[Peak, int]:
    """Run a command and return the peak of it and its children, and its exit code."""
    peak = Peak()
    with subprocess.Popen(command, cwd=folder) as process:
        while process.poll() is None:
            sample(process.pid, peak)
            time.sleep(0.05)
    return peak, process.returncode


def sample(root: int, peak: Peak) -> None:
    """Add up the memory of a process and all beneath it."""
    own = mapped = 0
    for pid in family(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it ended while we looked
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
        own += (kib["Pss_Anon"] + kib["Pss_Shmem"]) * 1024
        mapped += kib["Pss_File"] * 1024
        peak.processes[pid] = max(peak.processes.get(pid, 0), kib["Rss"] * 1024)
    peak.own, peak.mapped = max(peak.own, own), max(peak.mapped, mapped)
    peak.total = max(peak.total, own + mapped)


def family(root: int) -> list[int]:
    """Return a process and its descendants."""
    parents = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                text = (path / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(path.name)] = int(text[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


if __name__ == "__main__":
    main()
