"""Custom operators: schema, reference, portable body, kernels and gradient in one place."""
