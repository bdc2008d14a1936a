"""Does the process stay as large as it is, however often a method runs?

A twin's graph that is kept, a session per picture, a cache without an end: each of them adds a little with every run,
and a server runs for weeks. The runs have a process of their own, because in one that has been large before, a leak
fills what others have left.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import small_nets as nets
from test_engine_sweep import arguments

from engine.explain.evidence import ways
from engine.methods import methods
from engine.net import Net
from engine.nets.folder import PROJECT

STATUS = Path("/proc/self/statm")
WARM, RUNS, ROUNDS = 50, 200, 3
LIMIT = RUNS * 512  # bytes; a run of Grad-CAM on the tiny net that kept its graph would add 700
MADE = 2048  # bytes; a run that makes a picture has several steps, and would add more
LEAKY = ("Gradient", "Grad-CAM")

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not STATUS.exists(), reason="The resident memory is read from Linux's /proc."),
]


def resident() -> int:
    """Bytes, after everything that is free has been given back."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
    if trim is not None:
        trim(0)
    return int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(function: Callable, net: Net, warm: int = WARM, runs: int = RUNS, limit: int = LIMIT) -> int:
    """Bytes that many runs leave behind. An allocator takes more from time to time, a leak takes it in every round.

    limit: a round below it is enough.
    """
    image, given = nets.picture(), arguments(function, net)
    for _ in range(warm):
        function(net, image, **given)
    grown = []
    while len(grown) < ROUNDS and (not grown or grown[-1] >= limit):
        before = resident()
        for _ in range(runs):
            function(net, image, **given)
        grown.append(resident() - before)
    return min(grown)


def makers() -> dict[str, Callable]:
    """The methods that make a picture, each in many steps."""
    found = {name: method for name, method in methods().items() if method.makes}
    return {name: method.function for name, method in found.items() if "image" in method.takes}


def measure(path: str) -> None:
    """Print what each way leaves behind, and what two would that keep their graphs."""
    import torch

    from engine.twin import Twin

    torch.set_num_threads(1)  # for nets this small more of them only wait for one another
    net = Net(path)
    found = {title: growth(way.function, net) for title, way in ways().items()}
    made = {name: growth(function, net, warm=10, runs=20, limit=20 * MADE) for name, function in makers().items()}
    kept, call = [], Twin.__call__

    def keep(self, *args, **given):
        kept.append(call(self, *args, **given))
        return kept[-1]

    Twin.__call__ = keep
    leaky = {title: growth(ways()[title].function, net) for title in LEAKY}
    print(json.dumps({"ways": found, "made": made, "leaky": leaky}))


@pytest.fixture(scope="module")
def measured(tiny, tmp_path_factory) -> dict[str, dict[str, int]]:
    here, home = Path(__file__).parent, tmp_path_factory.mktemp("home")
    nets.decoder(tiny, home / "decoders")
    paths = os.pathsep.join(map(str, (here, PROJECT / "tests", PROJECT)))
    done = subprocess.run(
        [sys.executable, "-c", "import sys, test_memory; test_memory.measure(sys.argv[1])", str(tiny.path)],
        env=os.environ | {"PYTHONPATH": paths, "CONVOSCOPE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("title", ways())
def test_runs_leave_nothing_behind(measured, title):
    assert measured["ways"][title] < LIMIT


@pytest.mark.parametrize("name", makers())
def test_making_pictures_leaves_nothing_behind(measured, name):
    """20 runs: each of several steps, of which a kept graph or picture would be 2 KiB or more."""
    assert measured["made"][name] < 20 * MADE


@pytest.mark.parametrize("title", LEAKY)
def test_a_leak_would_be_seen(measured, title):
    """Of a graph that is kept, also of one that begins behind the last layer."""
    assert measured["leaky"][title] > LIMIT
