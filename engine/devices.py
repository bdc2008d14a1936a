"""What do forward passes compute on: which cores, which GPU, how many threads?"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import sys
from pathlib import Path

import onnxruntime
from threadpoolctl import threadpool_info

log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
# In float32, as on the CPU and in the Twin: TensorFloat-32, which ONNX Runtime would take, keeps three digits. And its
# exhaustive search for the best convolution takes seconds for each new size of a batch. Where cuDNN's heuristics offer
# no way without TensorFloat-32, ONNX Runtime takes it all the same: seen with resnet50 in batches of 100, not of 81.
CUDA = ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})


def cores() -> int:
    """How many cores of the CPU this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wanted_threads() -> int:
    """How many threads the user wants of each library, as torch reads it, too (OMP_NUM_THREADS); 0 for one per core."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(first) if first.isdecimal() else 0


def providers() -> list[str | tuple[str, dict]]:
    """What ONNX Runtime is to compute with, the best first: an NVIDIA GPU where there is one."""
    if not cuda_device_present() or CUDA[0] not in onnxruntime.get_available_providers():
        return [CPU]
    _preload_cuda()
    _one_arena()
    return [CUDA, CPU]


@functools.cache
def _one_arena() -> None:
    """Let all sessions share the GPU's memory: each would hold on to a piece of its own, and they are dozens."""
    try:  # ONNX Runtime's exceptions have no common public class
        onnxruntime.create_and_register_allocator_v2(
            CUDA[0],
            onnxruntime.OrtMemoryInfo(
                "Cuda", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
            ),
            {},
            onnxruntime.OrtArenaCfg({"arena_extend_strategy": 1}),  # as much more as is needed, not twice of it
        )
    except Exception:
        log.warning("The sessions on the GPU do not share its memory.", exc_info=True)


def rest_torch() -> None:
    """Send torch's threads home, which spin on the cores for ten milliseconds behind each of its ops.

    ONNX Runtime's next pass takes a sixth longer beside them, squeezenet1_1's a quarter; new ones take 0.1 ms.
    """
    if "torch._C" in sys.modules:  # all of its libraries are there then, also while another thread imports the rest
        for library in _openmp():
            library.omp_pause_resource_all(1)  # omp_pause_soft, OpenMP 5.0, 3.2.45; of the thread that calls it


@functools.cache
def _openmp() -> list[ctypes.CDLL]:
    """The libraries that hold torch's threads, where it comes with GNU's: on Linux."""
    loaded = [each["filepath"] for each in threadpool_info() if each["internal_api"] == "openmp"]
    return [ctypes.CDLL(path) for path in loaded if Path(path).parts[-3:-1] == ("torch", "lib") and "gomp" in path]


def cuda_device_present() -> bool:
    """Whether the NVIDIA driver sees a GPU; asked of the driver itself, which costs nothing and needs no torch."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _preload_cuda() -> None:
    """Let ONNX Runtime use the CUDA libraries that came with torch: one set in memory, not two."""
    onnxruntime.preload_dlls()
