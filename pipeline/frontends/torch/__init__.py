"""PyTorch comes in: modules, exported programs, TorchScript."""
