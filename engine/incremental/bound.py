"""How does ONNX Runtime compute on what PyTorch holds on the same device, without a copy?

By IO binding: a session is told where its inputs lie and where its outputs are to lie, in memory that torch has
allocated.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime
import torch


def run(
    session: onnxruntime.InferenceSession, feed: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, torch.Tensor]:
    """The outputs named in `shapes`, float32 and of these shapes, on the device on which the inputs of `feed` lie.

    feed: all on one device. Raises ValueError where one is not float32 and contiguous, which would be read as
    something else, and ONNX Runtime's errors where a shape is another.
    """
    for name, tensor in feed.items():
        if tensor.dtype != torch.float32 or not tensor.is_contiguous():
            raise ValueError(f"The tensor {name!r} does not lie in memory as ONNX Runtime reads it.")
    device = next(iter(feed.values())).device
    out = {name: torch.empty(shape, device=device) for name, shape in shapes.items()}
    bound = session.io_binding()
    for bind, tensors in ((bound.bind_input, feed), (bound.bind_output, out)):
        for name, tensor in tensors.items():
            bind(name, device.type, device.index or 0, np.float32, tuple(tensor.shape), tensor.data_ptr())
    if device.type == "cuda":  # the two have queues of their own: nothing is read or overwritten that is not finished
        torch.cuda.current_stream(device).synchronize()
    session.run_with_iobinding(bound)
    bound.synchronize_outputs()
    return out
