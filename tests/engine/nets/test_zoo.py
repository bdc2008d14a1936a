"""Can the published networks be listed, downloaded through every kind of bad connection, and exported as they are?

No test here leaves the machine: what is downloaded comes from a server of its own on 127.0.0.1.
"""

import hashlib
import http.server
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision import models

from engine.image import batch, fit, load
from engine.model.metadata import Metadata
from engine.net import Net
from engine.nets import certificate, download, zoo
from engine.nets.export import export
from engine.nets.folder import PROJECT

SHARED = Path(os.environ.get("CONVOSCOPE_SHARED", PROJECT.parent / "shared"))


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Neither the user's networks nor a proxy take part."""
    monkeypatch.setenv("CONVOSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")


class Server:
    """Serves one file, in ways that can be chosen; remembers the Range headers that it was asked with."""

    def __init__(self, content: bytes):
        self.content, self.ranges = content, []
        self.cut_after = []  # how many bytes each of the next answers sends before the connection ends
        self.knows_ranges = True
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers["Range"]
                server.ranges.append(asked)
                if not self.path.endswith(".pth"):
                    return self.send_error(404)
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.knows_ranges else 0
                if start >= len(server.content):
                    return self.send_error(416)
                body = server.content[start:]
                self.send_response(206 if start else 200)
                if start:
                    last = len(server.content) - 1
                    self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.content)}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: server.cut_after.pop(0)] if server.cut_after else body)

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def url(self, content: bytes | None = None) -> str:
        """Where the file is, under a name that states the SHA-256 of `content`, by default its own."""
        name = f"net-{hashlib.sha256(self.content if content is None else content).hexdigest()[:8]}.pth"
        return f"http://127.0.0.1:{self.http.server_port}/{name}"

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server():
    running = Server(np.random.default_rng(0).bytes(3 * download.CHUNK + 17))
    yield running
    running.close()


# Downloading ----------------------------------------------------------------------------------------------------------


def test_a_download_counts_its_bytes(server, tmp_path):
    path = tmp_path / "deep" / "net.pth"
    steps = list(download.download(server.url(), path))
    assert path.read_bytes() == server.content
    assert [step.index for step in steps] == sorted({step.index for step in steps})
    assert steps[-1].index == len(server.content)
    assert {step.total for step in steps} == {len(server.content)}
    assert [file.name for file in path.parent.iterdir()] == ["net.pth"]


def test_a_cut_connection_is_resumed_at_once(server, tmp_path):
    server.cut_after = [download.CHUNK + 5, 100]
    steps = list(download.download(server.url(), tmp_path / "net.pth"))
    assert server.ranges == [None, f"bytes={download.CHUNK + 5}-", f"bytes={download.CHUNK + 105}-"]
    assert (tmp_path / "net.pth").read_bytes() == server.content
    assert {step.total for step in steps} == {len(server.content)}


def test_a_run_that_was_ended_is_resumed_by_the_next(server, tmp_path):
    steps = download.download(server.url(), tmp_path / "net.pth")
    there = next(steps).index
    steps.close()
    assert not (tmp_path / "net.pth").exists()
    assert next(download.download(server.url(), tmp_path / "net.pth")).index > there
    list(download.download(server.url(), tmp_path / "net.pth"))
    assert server.ranges[1] == f"bytes={there}-"
    assert (tmp_path / "net.pth").read_bytes() == server.content


def test_a_server_that_ignores_ranges_is_read_from_the_start(server, tmp_path):
    server.knows_ranges = False
    server.cut_after = [1000]
    list(download.download(server.url(), tmp_path / "net.pth"))
    assert server.ranges == [None, "bytes=1000-"]
    assert (tmp_path / "net.pth").read_bytes() == server.content


@pytest.mark.parametrize(
    "left", [b"something else", b"x" * (4 * download.CHUNK)], ids=["shorter", "longer than the file"]
)
def test_what_is_left_of_another_file_is_thrown_away(server, tmp_path, left):
    (tmp_path / "net.pth.part").write_bytes(left)
    list(download.download(server.url(), tmp_path / "net.pth"))
    assert server.ranges == [f"bytes={len(left)}-", None]
    assert (tmp_path / "net.pth").read_bytes() == server.content


def test_a_part_that_is_whole_already_is_taken(server, tmp_path):
    (tmp_path / "net.pth.part").write_bytes(server.content)
    assert list(download.download(server.url(), tmp_path / "net.pth")) == []
    assert (tmp_path / "net.pth").read_bytes() == server.content


def test_a_wrong_hash_is_an_error_and_leaves_nothing(server, tmp_path):
    with pytest.raises(download.WrongHash, match=r"net\.pth"):
        list(download.download(server.url(b"what was published"), tmp_path / "net.pth"))
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_is_always_cut_ends(server, tmp_path):
    server.cut_after = [10] * 100
    with pytest.raises(download.Offline, match="lost"):
        list(download.download(server.url(), tmp_path / "net.pth"))
    assert len(server.ranges) == download.TRIES
    assert (tmp_path / "net.pth.part").stat().st_size == 10 * download.TRIES


def test_a_file_that_is_not_there(server, tmp_path):
    with pytest.raises(download.Offline, match=r"404.*goes on with what it has"):
        list(download.download(server.url().replace(".pth", ".zip"), tmp_path / "net.pth"))


def test_a_refused_connection(server, tmp_path):
    url = server.url()
    server.close()
    with pytest.raises(download.Offline, match=r"127\.0\.0\.1:\d+ could not be reached .* goes on with what it has"):
        list(download.download(url, tmp_path / "net.pth"))


def test_a_silent_server(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        steps = download.download(f"http://127.0.0.1:{silent.getsockname()[1]}/net-12345678.pth", tmp_path / "net.pth")
        with pytest.raises(download.Offline, match="timed out"):
            list(steps)


# The list -------------------------------------------------------------------------------------------------------------


def test_listing_imports_no_torch():
    code = "import sys; from engine.nets import zoo; zoo.installed(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


@pytest.mark.parametrize("network", zoo.NETWORKS.values(), ids=zoo.NETWORKS)
def test_the_list_agrees_with_torchvision(network):
    weights = models.get_model_weights(network.name)[network.weights]
    assert network.megabytes == pytest.approx(weights.meta["_file_size"] * 2**20 / 1e6, abs=0.06)
    assert len(weights.meta["categories"]) == 1000
    assert re.fullmatch(r".+-[0-9a-f]{8}\.pth", weights.url)
    assert re.search(r"arXiv:\d{4}\.\d{4,5}$", network.paper)
    assert len(weights.transforms().crop_size) == len(weights.transforms().resize_size) == 1


def test_installed_lists_what_lies_in_the_folder(tmp_path):
    assert zoo.installed() == {}
    folder = tmp_path / "home" / "networks"
    folder.mkdir(parents=True)
    for name in ("resnet18.onnx", "alexnet.onnx", "vgg16.onnx.123.tmp"):
        (folder / name).write_bytes(b"")
    assert zoo.installed() == {name: folder / f"{name}.onnx" for name in ("alexnet", "resnet18")}


# From weights to a network --------------------------------------------------------------------------------------------


def published(server, monkeypatch, state: dict, tmp_path: Path) -> None:
    """Let `server` publish `state` as SqueezeNet's weights."""
    torch.save(state, tmp_path / "state")
    server.content = (tmp_path / "state").read_bytes()
    real = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    fake = SimpleNamespace(url=server.url(), meta=real.meta, transforms=real.transforms)
    monkeypatch.setattr(zoo, "_weights", lambda network: fake)


def test_fetching_downloads_exports_and_checks(server, monkeypatch, tmp_path):
    torch.manual_seed(0)
    module = models.squeezenet1_1(weights=None).eval()
    published(server, monkeypatch, module.state_dict(), tmp_path)
    steps = list(zoo.fetch("squeezenet1_1"))
    words = list(dict.fromkeys(step.result for step in steps))
    assert words[:3] == ["Fetching SqueezeNet 1.1", "Writing SqueezeNet 1.1 as ONNX", "Checking SqueezeNet 1.1"]
    path = words[3]
    assert zoo.installed() == {"squeezenet1_1": path}
    assert steps[-1].index == steps[-1].total == len(server.content)
    assert list((tmp_path / "home" / "downloads").iterdir()) == []

    net = Net(path)
    assert net.notes == []
    assert net.metadata.crop == 0.875
    assert net.input_size == (224, 224)
    assert "58.2 %" in net.metadata.accuracy
    assert net.labels[258] == "Samoyed"
    assert certificate.recall(net).passed
    pixels = np.random.default_rng(0).random((2, 3, 224, 224), np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(net.normalise(pixels))).numpy()
    np.testing.assert_allclose(net.scores(pixels), expected, rtol=1e-3, atol=1e-4)

    asked = len(server.ranges)
    assert [step.result for step in zoo.fetch("squeezenet1_1")] == [path]
    assert len(server.ranges) == asked


def test_weights_of_another_network_are_refused(server, monkeypatch, tmp_path):
    published(server, monkeypatch, {"conv1.weight": torch.zeros(1)}, tmp_path)
    with pytest.raises(download.FetchFailed, match="does not hold the weights of SqueezeNet"):
        list(zoo.fetch("squeezenet1_1"))
    assert zoo.installed() == {}


def test_a_pickle_that_would_run_code_is_refused(server, monkeypatch, tmp_path):
    published(server, monkeypatch, {"x": SimpleNamespace()}, tmp_path)
    with pytest.raises(download.FetchFailed, match="does not hold the weights"):
        list(zoo.fetch("squeezenet1_1"))


def test_one_run_at_a_time(server, monkeypatch, tmp_path):
    published(server, monkeypatch, {"x": torch.zeros(100_000)}, tmp_path)
    first = zoo.fetch("squeezenet1_1")
    next(first)
    with pytest.raises(download.Busy, match=r"SqueezeNet 1\.1 is being fetched"):
        next(zoo.fetch("squeezenet1_1"))
    first.close()
    next(zoo.fetch("squeezenet1_1"))  # an ended run makes way


def test_offline(server, monkeypatch, tmp_path):
    published(server, monkeypatch, {}, tmp_path)
    server.close()
    for _ in range(2):  # the first failure leaves nothing behind that changes the second
        with pytest.raises(download.Offline):
            list(zoo.fetch("squeezenet1_1"))


def test_an_unknown_name():
    with pytest.raises(KeyError):
        next(zoo.fetch("resnet1001"))


@pytest.mark.thorough
def test_googlenet_is_torchvisions_with_its_rescaling_moved_to_the_metadata(tmp_path):
    torch.manual_seed(0)
    theirs = models.googlenet(weights=None, transform_input=True, aux_logits=True, init_weights=False).eval()
    network = zoo.NETWORKS["googlenet"]
    path = tmp_path / "googlenet.onnx"
    ours = zoo.build(network, theirs.state_dict())
    export(ours, path, Metadata(input_size=(64, 64), mean=network.mean, std=network.std))
    net = Net(path)
    pixels = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (zoo.IMAGENET_MEAN, zoo.IMAGENET_STD))
    with torch.no_grad():
        expected = theirs((torch.from_numpy(pixels) - mean) / std).numpy()
    np.testing.assert_allclose(net.scores(pixels), expected, rtol=1e-3, atol=1e-4)
    assert net.layers[0].op == "Conv"
    assert not any("aux" in layer.name for layer in net.layers)


def test_densenets_older_names_are_understood():
    torch.manual_seed(0)
    theirs = models.densenet121(weights=None).eval()
    published = {re.sub(r"(denselayer\d+\.(norm|conv))(\d)", r"\1.\3", k): v for k, v in theirs.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in published
    ours = zoo.build(zoo.NETWORKS["densenet121"], published)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


# What the real weights see: the likeliest class of each picture, with torchvision's own transforms
SEEN = {
    "samoyed.jpg": "Samoyed",
    "kodak23_macaws.jpg": "macaw",
    "kodak21_lighthouse_rocks.jpg": "beacon",
    "coffee.png": "espresso",
    "amber_door.jpg": "vault",
    "coral_hot_dog.jpg": "hotdog",
    "coral_dragonfly.jpg": "dragonfly",
    "coral_cat_tabby.jpg": "Egyptian cat",
    "both_dog_cat.png": "bull mastiff",
    "golden_gate.jpg": "suspension bridge",
}


def test_squeezenet_sees_what_torchvision_says(tmp_path, monkeypatch):
    if not (SHARED / "weights").is_dir() or not (SHARED / "photos").is_dir():
        pytest.skip(f"the shared weights and photographs are not there: {SHARED} (CONVOSCOPE_SHARED)")
    monkeypatch.setenv("TORCH_HOME", str(SHARED / "weights"))
    net = Net(list(zoo.fetch("squeezenet1_1"))[-1].result)
    seen = {}
    for name in SEEN:
        pixels, _ = fit(load(SHARED / "photos" / name), net.input_size, crop=net.metadata.crop)
        seen[name] = net.labels[net.scores(batch(pixels))[0].argmax()]
    assert seen == SEEN


def test_a_download_can_be_held_against_an_md5(server, tmp_path):
    url = server.url().replace("net-", "any-")
    right = hashlib.md5(server.content).hexdigest()
    list(download.download(url, tmp_path / "right.pth", md5=right))
    assert (tmp_path / "right.pth").read_bytes() == server.content
    with pytest.raises(download.WrongHash, match="MD5"):
        list(download.download(url, tmp_path / "wrong.pth", md5="0" * 32))
    assert [path.name for path in tmp_path.iterdir()] == ["right.pth"]
