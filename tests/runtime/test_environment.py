import getpass
import json
import os
import platform
import socket

import numpy as np

from onnxsmith.runtime.environment import (
    describe_environment,
    installed_version,
    peak_memory_bytes,
    usable_cores,
)


def test_the_environment_names_what_figures_depend_on_and_nobody():
    found = describe_environment()
    assert found.cpu
    assert found.cores == len(os.sched_getaffinity(0))
    assert 2**28 < found.memory_bytes < 2**50
    assert found.python == platform.python_version()
    assert found.packages["numpy"] == np.__version__
    assert "CPUExecutionProvider" in found.providers
    text = json.dumps(found.to_json())
    assert os.path.expanduser("~") not in text
    assert socket.gethostname() not in text or len(socket.gethostname()) < 4
    assert getpass.getuser() not in text or len(getpass.getuser()) < 5


def test_peak_memory_is_in_bytes_and_grows():
    before = peak_memory_bytes()
    block = np.ones(60_000_000, dtype=np.uint8)
    after = peak_memory_bytes()
    assert before is not None
    assert after is not None
    assert before > 10e6
    assert after >= before
    assert after > block.nbytes


def test_absent_packages_have_no_version():
    assert installed_version("numpy") == np.__version__
    assert installed_version("no-such-package-here") == ""
    assert usable_cores() >= 1
