"""Which fused kernels are faster on the target than what they stand for? Measured, not believed."""
