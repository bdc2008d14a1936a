"""The engine: numpy in, numpy out.

numpy's own matrix products get one thread. All of them here are small, and the threads of its BLAS spin on for some
hundredths of a second after each, on the cores that ONNX Runtime and torch want next: Grad-CAM on SqueezeNet took twice
as long for a map that was stretched before.
"""

import numpy  # noqa: F401 (its BLAS has to be there to be told)
from threadpoolctl import threadpool_limits

threadpool_limits(1, user_api="blas")
