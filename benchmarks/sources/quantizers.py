"""Programs that quantize a model, and one that times OpenVINO's; each runs in a process of its own.

A quantizer gets the float model, the file to write, the calibration data as npz (one array an
input, samples first) and what the network is, ``convolutional`` or ``transformer``. It prints
seconds and peak MiB, imports left out of the seconds.
"""

MEASURED = """
import json, re, sys, time
source, target, data, kind = sys.argv[1:]
{imports}
start = time.perf_counter()
{work}
seconds = time.perf_counter() - start
# Not ru_maxrss: that of a forked process begins with its parent's.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print("RESULT", json.dumps([seconds, peak]))
"""

OURS = """
import onnxruntime, onnxsmith.cli.quantize, onnxsmith.pipeline.quantization.run
from onnxsmith.cli.main import run
"""

OURS_WORK = """
arguments = ["quantize", source, "-o", target, "--data", "npz:" + data, "--no-bench"]
if run([*arguments, *{options!r}]):
    sys.exit("onnxsmith refused")
"""

ORT = """
import logging, numpy as np
from onnxruntime import quantization as q
logging.disable(logging.WARNING)
"""

ORT_STATIC = """
class Reader(q.CalibrationDataReader):
    def __init__(self):
        arrays = dict(np.load(data))
        self.rows = iter([
            {name: array[i : i + 1] for name, array in arrays.items()}
            for i in range(len(next(iter(arrays.values()))))
        ])
    def get_next(self):
        return next(self.rows, None)
q.quantize_static(
    source, target, Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True,
    activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8,
)
"""

ORT_DYNAMIC = """
q.quantize_dynamic(source, target, per_channel=True, weight_type=q.QuantType.QInt8)
"""

NNCF = """
import logging, numpy as np, nncf, openvino as ov
logging.disable(logging.WARNING)
"""

NNCF_WORK = """
arrays = dict(np.load(data))
rows = [
    {name: array[i : i + 1] for name, array in arrays.items()}
    for i in range(len(next(iter(arrays.values()))))
]
options = {"model_type": nncf.ModelType.TRANSFORMER} if kind == "transformer" else {}
model = ov.Core().read_model(source)
done = nncf.quantize(model, nncf.Dataset(rows), subset_size=len(rows), **options)
ov.save_model(done, target, compress_to_fp16=False)
"""

OPENVINO = """
import json, sys, time
import numpy as np, openvino as ov
model, feeds, probes, outputs, threads, runs = sys.argv[1:]
core = ov.Core()
settings = {
    "INFERENCE_NUM_THREADS": int(threads), "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
}
request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
one = dict(np.load(feeds))
for _ in range(5):
    request.infer(one, share_inputs=True, share_outputs=True)
samples = []
for _ in range(int(runs)):
    begin = time.perf_counter()
    request.infer(one, share_inputs=True, share_outputs=True)
    samples.append((time.perf_counter() - begin) * 1000)
if outputs:
    arrays = dict(np.load(probes))
    found = [
        request.infer({name: array[i : i + 1] for name, array in arrays.items()})[0].copy()
        for i in range(len(next(iter(arrays.values()))))
    ]
    np.save(outputs, np.concatenate(found))
print("RESULT", json.dumps(samples))
"""
"""Arguments: the model, one run's inputs, the inputs whose outputs are kept, the file for them or
an empty text, threads, and the timed runs."""
