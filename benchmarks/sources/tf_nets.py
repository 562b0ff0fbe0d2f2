"""Networks of TensorFlow."""

from typing import Any

import tensorflow as tf

_RANDOM = tf.random.Generator.from_seed(0)


class Convolutions(tf.Module):
    """Depthwise separable convolutions with normalization, on [N, 96, 96, 3] images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = tf.Variable(_RANDOM.normal([3, 3, 3, 16]) * 0.2)
        self.depth = [tf.Variable(_RANDOM.normal([3, 3, 16, 1]) * 0.3) for _ in range(6)]
        self.point = [tf.Variable(_RANDOM.normal([1, 1, 16, 16]) * 0.25) for _ in range(6)]
        self.scale = [tf.Variable(_RANDOM.uniform([16], 0.5, 1.5)) for _ in range(6)]
        self.head = tf.Variable(_RANDOM.normal([16, 10]) * 0.25)

    @tf.function(input_signature=[tf.TensorSpec([None, 96, 96, 3], tf.float32, name="image")])
    def __call__(self, image: Any) -> Any:
        """Return [N, 10] scores."""
        x = tf.nn.relu(tf.nn.conv2d(image, self.stem, 2, "SAME"))
        zero = tf.zeros([16])
        for depth, point, scale in zip(self.depth, self.point, self.scale, strict=True):
            x = tf.nn.depthwise_conv2d(x, depth, [1, 1, 1, 1], "SAME")
            x, *_ = tf.compat.v1.nn.fused_batch_norm(x, scale, zero, zero, scale, is_training=False)
            x = tf.nn.relu6(tf.nn.conv2d(x, point, 1, "SAME"))
        return tf.reduce_mean(x, [1, 2]) @ self.head


def convolutions() -> Any:
    """Return the module."""
    return Convolutions()
