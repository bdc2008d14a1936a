"""The engine: numpy in, numpy out.

numpy's own matrix products get one thread. All of them here are small, and the threads of its BLAS spin on for some
hundredths of a second after each, on the cores that ONNX Runtime and torch want next: Grad-CAM on SqueezeNet took twice
as long for a map that was stretched before.

Memory that torch gives back stays with the process, up to KEPT: glibc returned it to the system after an op and took it
again for the next, in some processes and not in others, as it happened to lie. Fast style spent a third of its time so.

ONNX Runtime tells nobody what is done with it. Since version 1.29 its builds for Linux and macOS report to Microsoft,
as those for Windows have long done: which model (its file's name, hashes of its graph and weights), on which machine
(by an identifier that the mere import writes into the user's cache folder), and which errors. Nobody who uses this
project was asked. The variable counts where it is set before ONNX Runtime is imported; on Windows, only a call helps.
https://github.com/microsoft/onnxruntime/pull/27379
"""

import ctypes
import os
import sys

import numpy  # noqa: F401 (its BLAS has to be there to be told)
from threadpoolctl import threadpool_limits

threadpool_limits(1, user_api="blas")

KEPT, LARGEST = 256 * 2**20, 32 * 2**20  # bytes in all; and of one piece, above which each is given back at once
if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
    libc.mallopt(-3, LARGEST)  # M_MMAP_THRESHOLD; glibc's own limit for it
    libc.mallopt(-1, KEPT)  # M_TRIM_THRESHOLD

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
if sys.platform == "win32":
    import onnxruntime

    onnxruntime.disable_telemetry_events()
