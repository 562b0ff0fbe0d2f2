"""Programs that take a source into ONNX by its framework's own exporter, or by another's.

Each is a text with ``{out}`` for the file to write, ``{source}`` for the one to read, ``{opset}``
and what the case says.
"""

TORCH = """
import torch
from sources import torch_nets
shape = {shape}
dims = {{0: torch.export.Dim('batch')}}
if len(shape) < 4:
    dims[1] = torch.export.Dim('time')
options = (
    dict(dynamo=True, dynamic_shapes=(dims,)) if {dynamo}
    else dict(dynamo=False, dynamic_axes={{'x': list(dims)}}, input_names=['x'])
)
x = torch.randint(0, 100, shape) if len(shape) == 2 else torch.randn(*shape)
torch.onnx.export(torch_nets.{name}(), (x,), {out!r}, opset_version={opset}, **options)
"""
TF2ONNX = """
import numpy, tensorflow as tf, tf2onnx
numpy.product = numpy.prod
from sources import tf_nets
module = tf_nets.{name}()  # it must outlive its function
tf2onnx.convert.from_function(
    module.__call__,
    input_signature=[tf.TensorSpec([None, 96, 96, 3], tf.float32, name='image')],
    opset={opset},
    output_path={out!r},
)
"""
KERAS = """
import numpy, tensorflow as tf, tf2onnx
numpy.product = numpy.prod
from sources import keras_nets
model = keras_nets.{name}()
model(numpy.zeros((1, 32, 32, 3), 'f'))
if {own}:
    model.export({out!r}, format='onnx', opset_version={opset}, verbose=False)
else:
    tf2onnx.convert.from_function(
        tf.function(lambda image: model(image)),
        input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.float32, name='image')],
        opset={opset},
        output_path={out!r},
    )
"""
TFLITE_SOURCE = """
import tensorflow as tf
from sources import tf_nets
module = tf_nets.{name}()
converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [module.__call__.get_concrete_function()], module
)
if {quantized}:
    import numpy as np
    generator = np.random.default_rng(0)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: (
        [generator.normal(size=(1, 96, 96, 3)).astype('f')] for _ in range(8)
    )
open({out!r}, 'wb').write(converter.convert())
"""
TFLITE = """
import numpy
numpy.product = numpy.prod
import numpy as np, tf2onnx
for name in ('object', 'bool', 'int', 'float'):
    if name not in np.__dict__:
        setattr(np, name, {{'object': object, 'bool': bool, 'int': int, 'float': float}}[name])
tf2onnx.convert.from_tflite({source!r}, opset={opset}, output_path={out!r})
"""
JAX = """
import jax2onnx
from sources import jax_nets
jax2onnx.to_onnx(
    jax_nets.{name}, [('batch', 64)], return_mode='file', output_path={out!r}, opset={opset}
)
"""
SKLEARN = """
import skl2onnx
from sources import estimators
model = estimators.{name}()
proto = skl2onnx.to_onnx(model, estimators.X[:1], options={options}, target_opset={opset})
open({out!r}, 'wb').write(proto.SerializeToString())
"""
ONNXMLTOOLS = """
import onnxmltools
from onnxmltools.convert.common.data_types import FloatTensorType
from sources import boosters
proto = onnxmltools.convert_{name}(
    boosters.{name}(), initial_types=[('X', FloatTensorType([None, 20]))], target_opset=15{more}
)
open({out!r}, 'wb').write(proto.SerializeToString())
"""
CATBOOST = """
from sources import boosters
boosters.catboost().save_model({out!r}, format='onnx')
"""
BERT_SOURCE = """
import torch, transformers
torch.manual_seed(0)
config = transformers.BertConfig(
    vocab_size=100, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
    intermediate_size=128,
)
transformers.BertForSequenceClassification(config).eval().save_pretrained({out!r})
"""
BERT = """
import torch, transformers
model = transformers.BertForSequenceClassification.from_pretrained({source!r}).eval()
names = ['input_ids', 'attention_mask', 'token_type_ids']
feeds = {{name: torch.ones(2, 8, dtype=torch.int64) for name in names}}
dims = {{0: torch.export.Dim('batch'), 1: torch.export.Dim('sequence')}}
options = (
    dict(dynamo=True, dynamic_shapes={{name: dims for name in names}}) if {dynamo}
    else dict(dynamo=False, dynamic_axes={{name: [0, 1] for name in names}}, input_names=names)
)
model.config.return_dict = False
torch.onnx.export(model, (), {out!r}, kwargs=feeds, opset_version={opset}, **options)
"""
SIBLING = "import shutil; shutil.copyfile({source!r}, {out!r})"
