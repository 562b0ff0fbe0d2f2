"""Models that the benchmarks convert: of common architectures, with random weights."""
