"""What all tests share: the net of six nodes, a picture for it, and where the large material lies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from engine.nets.folder import PROJECT

# One thread for torch and for ONNX Runtime, here and in what the tests start: more of them only wait for one another on
# nets as small as these, and pytest runs a test on every core. It is read when the libraries are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import small_nets as nets

from engine.net import Net

# Tests that borrow from one another do so by the file's name, wherever it lies.
sys.path[:0] = sorted({str(file.parent) for file in Path(__file__).parent.rglob("test_*.py")})


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="the thorough tests, too")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What needs other libraries is asked for: by its folder's name, or with all the rest."""
    asked = config.getoption("--all") or any("references" in each for each in config.args)
    return True if collection_path.name == "references" and not asked else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked as thorough; a test that was asked for by its name or by -m runs all the same."""
    named = any("::" in str(each) for each in config.args)
    if config.getoption("--all") or config.getoption("-m") or named:
        return
    left = [item for item in items if item.get_closest_marker("thorough")]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if not item.get_closest_marker("thorough")]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Net:
    """Six ONNX nodes on pictures of 12 x 16, four classes; see tests/small_nets.py."""
    return nets.save(nets.tiny(about=nets.ABOUT), tmp_path_factory.mktemp("nets") / "tiny.onnx")


@pytest.fixture
def no_celu(monkeypatch) -> None:
    """The Twin does not know Celu: an op that no classifier here has stands for all that it does not know."""
    from engine.ops.table import OPS

    monkeypatch.delitem(OPS, "Celu")


@pytest.fixture
def picture() -> np.ndarray:
    """(12, 16, 3): a picture of the size that `tiny` sees."""
    return nets.picture()


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
    from ui import foot

    found, draw = {}, foot.foot

    def listen(*arguments, downloads=(), **more):
        found.update({file: data() if callable(data) else data for _, file, data, _ in downloads})
        draw(*arguments, downloads=downloads, **more)

    monkeypatch.setattr(foot, "foot", listen)
    return found
