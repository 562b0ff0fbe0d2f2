"""JAX: functions, Flax and Equinox modules, through jax2onnx."""
