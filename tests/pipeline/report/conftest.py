"""Reports that the tests of this folder render: a whole run, and one full of hostile strings."""

from __future__ import annotations

import numpy as np
import pytest

from onnxsmith.pipeline.report.model import (
    Amount,
    ClassScore,
    Dataset,
    Fact,
    HistoryStep,
    Latency,
    ModelInfo,
    Parity,
    ParityRow,
    PassRow,
    Report,
    Scores,
    Speedup,
    Stage,
)

HOSTILE = "</script></style><img src=x onerror=alert(1)>\"'><!--{{ 7*7 }}"
LONG = "encoder/layer." * 360


def latency(model: str, median: float, seed: int, runs: int = 600) -> Latency:
    rng = np.random.default_rng(seed)
    times = median * (0.9 + rng.gamma(2.0, 0.05, runs))
    times[rng.integers(0, runs, 6)] *= 4
    p50, p90, p99 = (float(v) for v in np.percentile(times, (50, 90, 99)))
    mean = float(times.mean())
    samples = tuple(float(v) for v in times)
    return Latency(model, samples, p50, p90, p99, mean, 64e3 / mean, 64, "CPUExecutionProvider")


def scores(model: str, accuracy: float, seed: int) -> Scores:
    rng = np.random.default_rng(seed)
    matrix = np.diag(rng.integers(40, 47, 10))
    for _ in range(10):
        matrix[tuple(rng.integers(0, 10, 2))] += 1
    classes = tuple(str(i) for i in range(10))
    per_class = tuple(
        ClassScore(name, 0.97 + i / 400, 0.96 + i / 300, 0.965 + i / 350, int(matrix[i].sum()))
        for i, name in enumerate(classes)
    )
    metrics = {
        "accuracy": accuracy,
        "precision_macro": accuracy - 0.0004,
        "recall_macro": accuracy - 0.0007,
        "f1_macro": accuracy - 0.0006,
        "log_loss": 0.0841 if seed == 1 else 0.0862,
    }
    confusion = tuple(tuple(int(v) for v in row) for row in matrix)
    return Scores(model, metrics, confusion, classes, per_class, 450, 0.12)


@pytest.fixture(scope="session")
def whole_run() -> Report:
    digest = "sha256:9f2c4d1b7a3e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8"
    census = {"Gemm": 0, "MatMul": 4, "Add": 4, "Relu": 3, "Cast": 5, "Softmax": 1, "Identity": 3}
    lean = {"Gemm": 4, "Relu": 3, "Cast": 1, "Softmax": 1}
    integer = {"QLinearMatMul": 4, "QuantizeLinear": 2, "DequantizeLinear": 2, "Add": 4, **lean}
    return Report(
        title="Handwritten digits: from scikit-learn to int8",
        sources=(
            ModelInfo(
                "digits-mlp",
                "scikit-learn 1.9.1",
                digest,
                5_412_233,
                ("X: float32[N,64]",),
                ("label: int64[N]", "probabilities: float32[N,10]"),
                (Fact("Parameters", "1,337,866"), Fact("Opset", "21, ai.onnx.ml 3")),
            ),
        ),
        datasets=(
            Dataset("digits?split=train", "calibration", 1347, (Fact("Scale", "1/16"),)),
            Dataset("digits?split=test", "evaluation", 450, (Fact("Scale", "1/16"),)),
        ),
        stages=(
            Stage(
                "convert",
                seconds=1.42,
                options=(Fact("Opset", "21"),),
                facts=(Fact("Frontend", "sklearn, through skl2onnx 1.21"),),
                nodes_after=20,
                census_after=census,
            ),
            Stage(
                "optimize",
                seconds=0.31,
                options=(Fact("Preset", "default"), Fact("Verify", "end")),
                nodes_before=20,
                nodes_after=9,
                census_before=census,
                census_after=lean,
                passes=(
                    PassRow("fold-constants", "exact", "limit=1MB", 0.082, 20, 17),
                    PassRow("remove-identity", "exact", "", 0.003, 17, 14),
                    PassRow("fuse-matmul-add", "exact", "", 0.011, 14, 9),
                    PassRow("remove-duplicates", "exact", "", 0.004, 9, 9, "unchanged"),
                    PassRow(
                        "fuse-softmax-cast",
                        "approximate",
                        "opset=21:keep=all",
                        0.006,
                        9,
                        8,
                        "dropped",
                        "output probabilities is off by 3.1e-2, the tolerance is 1e-5",
                    ),
                ),
            ),
            Stage(
                "quantize",
                seconds=2.9,
                options=(Fact("Mode", "static"), Fact("Calibration", "256 samples, percentile")),
                nodes_before=9,
                nodes_after=21,
                census_before=lean,
                census_after=integer,
                warnings=("Softmax stays in float32: its int8 kernel is slower on this target.",),
            ),
            Stage("evaluate", "cached", 0.4),
            Stage("bench", seconds=18.2, options=(Fact("Rounds", "6 of 100 runs"),)),
        ),
        parity=(
            Parity(
                "digits-mlp (scikit-learn)",
                "fp32",
                (
                    ParityRow("label", 0.0, 0.0, float("inf")),
                    ParityRow("probabilities", 2.4e-7, 1.1e-6, 134.2),
                ),
                1e-4,
                1e-5,
                64,
            ),
            Parity(
                "optimized",
                "int8",
                (ParityRow("probabilities", 0.031, 0.22, 31.4, "differs"),),
                samples=64,
                budget="accuracy drop of at most 0.5 points",
            ),
        ),
        scores=(
            scores("fp32", 0.9778, 1),
            scores("optimized", 0.9778, 1),
            scores("int8", 0.9756, 2),
        ),
        latency=(
            latency("fp32", 0.412, 1),
            latency("optimized", 0.371, 2),
            latency("int8", 0.224, 3),
        ),
        speedups=(
            Speedup("fp32", "optimized", 1.11, 1.08, 1.14, "faster"),
            Speedup("fp32", "int8", 1.83, 1.72, 1.94, "faster"),
            Speedup("optimized", "int8", 1.01, 0.97, 1.06, "no change"),
        ),
        sizes=(
            Amount("fp32", 5_355_112),
            Amount("optimized", 5_352_870),
            Amount("int8", 1_362_004),
        ),
        memory=(
            Amount("fp32", 61_300_000),
            Amount("optimized", 60_100_000),
            Amount("int8", 52_400_000),
        ),
        products=(
            ModelInfo(
                "int8",
                "ONNX",
                digest[::-1],
                1_362_004,
                ("X: float32[N,64]",),
                ("label: int64[N]", "probabilities: float32[N,10]"),
                (Fact("File", "model.int8.onnx"),),
            ),
        ),
        history=(
            HistoryStep("sklearn", "source", (Fact("opset", "21"),), (Fact("nodes", "20"),)),
            HistoryStep("fold-constants", "pass", (Fact("limit", "1MB"),), (Fact("nodes", "17"),)),
            HistoryStep(
                "static-int8", "quantize", (Fact("samples", "256"),), (Fact("nodes", "21"),)
            ),
        ),
        provenance=(
            Fact("Command", "onnxsmith quickstart --out runs/digits --seed 7"),
            Fact("Seed", "7"),
            Fact("Date", "2026-01-14 09:30 UTC"),
        ),
        environment=(
            Fact("onnxsmith", "0.1.0"),
            Fact("onnxruntime", "1.31.1"),
            Fact("Python", "3.11.9 on Linux x86_64"),
            Fact("Processor", "AMD EPYC 7R13, 2 cores, AVX2"),
            Fact("Providers", "CPUExecutionProvider"),
            Fact("Threads", "2"),
        ),
        warnings=("One pass was rolled back; see step 2.",),
    )


@pytest.fixture(scope="session")
def hostile_run() -> Report:
    name = HOSTILE + LONG
    return Report(
        title=HOSTILE,
        summary=HOSTILE,
        sources=(ModelInfo(name, HOSTILE, HOSTILE, 1, (name,), (name,), (Fact(HOSTILE, name),)),),
        datasets=(Dataset(name, HOSTILE, 3, (Fact(name, HOSTILE),)),),
        stages=(
            Stage(
                name,
                options=(Fact(name, name),),
                facts=(Fact(HOSTILE, HOSTILE),),
                census_before={name: 3, HOSTILE: 1},
                census_after={name: 2},
                passes=(PassRow(name, HOSTILE, name, 0.1, 1, 1, "dropped", HOSTILE),),
                warnings=(HOSTILE, LONG, "\x00\x1b[31m\ud800\u202e"),
            ),
        ),
        parity=(
            Parity(
                name, HOSTILE, (ParityRow(name, reason=HOSTILE, verdict="differs"),), budget=name
            ),
        ),
        scores=(
            Scores(name, {name: 0.5}, ((1, 2), (3, 4)), (name, HOSTILE), (ClassScore(name),), 10),
            Scores("b", {HOSTILE: float("nan")}, ((1, 2), (3, 4)), (name,), (), 10),
        ),
        latency=(latency(name, 1.0, 1, 20), latency(HOSTILE, 2.0, 2, 20)),
        speedups=(Speedup(name, HOSTILE, 2.0, 1.0, 3.0, "faster"),),
        sizes=(Amount(name, 10), Amount(HOSTILE, 3)),
        memory=(Amount(name, 10),),
        products=(ModelInfo(HOSTILE),),
        history=(HistoryStep(name, HOSTILE, (Fact(name, name),), (Fact(HOSTILE, name),)),),
        provenance=(Fact(HOSTILE, name),),
        environment=(Fact(name, HOSTILE),),
        warnings=(HOSTILE, name),
    )
