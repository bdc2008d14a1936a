"""Does anything that the engine is built of leave traces, or tell others what is done here?"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from engine.nets.folder import PROJECT

# Under any of these ONNX Runtime is silent of its own accord.
QUIET = (
    "ORT_DISABLE_TELEMETRY",
    "ORT_TELEMETRY_DISABLED",
    "ORT_RUNNING_UNIT_TESTS",
    "CI",
    "GITHUB_ACTIONS",
    "TF_BUILD",
)


def left_behind(home: Path, script: str) -> list[str]:
    """What a program writes into the home of a user who has nothing yet."""
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if key not in QUIET and not key.startswith("XDG_")}
    kept |= {"HOME": str(home), "PYTHONPATH": str(PROJECT), "CONVOSCOPE_HOME": str(home / "convoscope")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=kept, cwd=home, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Elsewhere it is kept in other places.")
def test_onnx_runtime_leaves_no_identifier_and_reports_nothing(tmp_path):
    network = PROJECT / "exported_models" / "digits.onnx"
    ask = f"net = Net({str(network)!r}); net.scores(net.batch(np.zeros((32, 32, 1), np.float32)))"
    script = f"import numpy as np\nfrom engine.net import Net\n{ask}"
    assert left_behind(tmp_path / "engine", script) == []
    alone = f"import numpy, onnxruntime as o; o.InferenceSession({str(network)!r}, providers=['CPUExecutionProvider'])"
    if not any(name.endswith("deviceid") for name in left_behind(tmp_path / "alone", alone)):
        pytest.skip("This build of ONNX Runtime reports nothing, anyway: the check above cannot fail.")


def test_whoever_asks_for_reports_gets_them():
    script, given = "import os, engine; print(os.environ['ORT_DISABLE_TELEMETRY'])", {"ORT_DISABLE_TELEMETRY": "0"}
    environment = {**os.environ, **given}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["0"]


def test_streamlit_reports_nothing():
    settings = tomllib.loads((PROJECT / ".streamlit" / "config.toml").read_text("utf-8"))
    assert settings["browser"]["gatherUsageStats"] is False
