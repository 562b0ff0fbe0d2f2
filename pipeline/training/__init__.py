"""Training and fine-tuning on the plain runtime: losses, optimizers, steps and the loop."""
