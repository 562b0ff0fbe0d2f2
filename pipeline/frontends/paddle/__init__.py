"""PaddlePaddle comes in: saved programs and layers."""
