"""What all tests share: the net of six nodes, a picture for it, and where the large material lies."""

from __future__ import annotations

import os
from pathlib import Path

import nets
import numpy as np
import pytest

from engine.net import Net

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Net:
    """Six ONNX nodes on pictures of 12 x 16, four classes; see tests/nets.py."""
    return nets.save(nets.tiny(about=nets.ABOUT), tmp_path_factory.mktemp("nets") / "tiny.onnx")


@pytest.fixture
def no_celu(monkeypatch) -> None:
    """The Twin does not know Celu: an op that no classifier here has stands for all that it does not know."""
    from engine.ops import OPS

    monkeypatch.delitem(OPS, "Celu")


@pytest.fixture
def picture() -> np.ndarray:
    """(12, 16, 3): a picture of the size that `tiny` sees."""
    return nets.picture()


@pytest.fixture(scope="module")
def one_thread():
    """Torch on one thread: for nets as small as these more of them only wait for one another."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with networks and photographs that others made, which is no part of the project."""
    folder = Path(os.environ.get("CONVOSCOPE_SHARED", PROJECT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"The shared material is not in {folder.name!r}; CONVOSCOPE_SHARED says where it is.")
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A folder of this test's own for what the app keeps."""
    monkeypatch.setenv("CONVOSCOPE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def given(monkeypatch) -> dict[str, bytes]:
    """What a page offers for download, by file name: filled while it runs, the latest run's last."""
    from ui import frame

    found, foot = {}, frame.foot

    def listen(*arguments, downloads=(), **more):
        found.update({file: data() if callable(data) else data for _, file, data, _ in downloads})
        foot(*arguments, downloads=downloads, **more)

    monkeypatch.setattr(frame, "foot", listen)
    return found
