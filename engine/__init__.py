"""The engine: numpy in, numpy out.

numpy's own matrix products get one thread. All of them here are small, and the threads of its BLAS spin on for some
hundredths of a second after each, on the cores that ONNX Runtime and torch want next: Grad-CAM on SqueezeNet took twice
as long for a map that was stretched before.

torch's threads spin, too, for about ten milliseconds after each of its ops: ONNX Runtime's next pass took a sixth longer,
squeezenet1_1's a third. So they spin for less than one, which is longer than from one op to the next. That counts where it
is set before torch is imported, and torch comes with the library that reads it (GNU's) on Linux only.

ONNX Runtime tells nobody what is done with it. Since version 1.29 its builds for Linux and macOS report to Microsoft,
as those for Windows have long done: which model (its file's name, hashes of its graph and weights), on which machine
(by an identifier that the mere import writes into the user's cache folder), and which errors. Nobody who uses this
project was asked. The variable counts where it is set before ONNX Runtime is imported; on Windows, only a call helps.
https://github.com/microsoft/onnxruntime/pull/27379
"""

import os
import sys

import numpy  # noqa: F401 (its BLAS has to be there to be told)
from threadpoolctl import threadpool_limits

threadpool_limits(1, user_api="blas")

os.environ.setdefault("GOMP_SPINCOUNT", "20000")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
if sys.platform == "win32":
    import onnxruntime

    onnxruntime.disable_telemetry_events()
