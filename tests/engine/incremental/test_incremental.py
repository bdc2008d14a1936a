"""Are the numbers of a picture with a patch changed the same if only what has changed is computed again?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets
from small_nets import node

from engine.incremental import bound, gpu, parts
from engine.incremental import plan as plans
from engine.incremental.parts import changed
from engine.model import projective_field
from engine.net import Net

SIZE = (70, 91)
ABOUT = nets.Metadata(labels=nets.LABELS, input_size=SIZE, mean=nets.MEAN, std=nets.STD)


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {name: rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape) for name, shape in shapes.items()}


END = [node("GlobalAveragePool", "last", "mean"), node("Flatten", "mean", "flat"), node("Gemm", "flat w", "logits")]

KINDS = {
    "a row": (
        [
            node("Conv", "image a", "conv1", strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Relu", "conv1", "relu1"),
            node("MaxPool", "relu1", "pool1", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
            node("Conv", "pool1 b", "conv2", pads=[2, 2, 2, 2]),
            node("Relu", "conv2", "last"),
        ],
        {"a": (4, 3, 3, 3), "b": (6, 4, 5, 5)},
    ),
    "no padding": (
        [
            node("Conv", "image a", "conv1", strides=[3, 2]),
            node("Relu", "conv1", "relu1"),
            node("Conv", "relu1 b", "conv2", dilations=[2, 1]),
            node("Relu", "conv2", "last"),
        ],
        {"a": (4, 3, 4, 3), "b": (6, 4, 3, 3)},
    ),
    "padding on one side": (
        [
            node("Conv", "image a", "conv1", strides=[2, 2], auto_pad="SAME_UPPER", kernel_shape=[3, 3]),
            node("Relu", "conv1", "relu1"),
            node("Conv", "relu1 b", "conv2", strides=[2, 3], pads=[0, 2, 3, 1]),
            node("Relu", "conv2", "last"),
        ],
        {"a": (4, 3, 3, 3), "b": (6, 4, 3, 3)},
    ),
    "residual": (
        [
            node("Conv", "image a", "conv1", strides=[2, 2], pads=[3, 3, 3, 3]),
            node("Relu", "conv1", "relu1"),
            node("Conv", "relu1 b", "conv2", strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Relu", "conv2", "relu2"),
            node("Conv", "relu2 c", "conv3", pads=[1, 1, 1, 1]),
            node("Conv", "relu1 d", "short", strides=[2, 2]),  # of every second row and column only
            node("Add", "conv3 short", "sum"),
            node("Relu", "sum", "last"),
        ],
        {"a": (4, 3, 7, 7), "b": (6, 4, 3, 3), "c": (6, 6, 3, 3), "d": (6, 4, 1, 1)},
    ),
    "branches": (
        [
            node("Conv", "image a", "conv1", pads=[1, 1, 1, 1]),
            node("LeakyRelu", "conv1", "relu1"),
            node(
                "AveragePool",
                "relu1",
                "pool1",
                kernel_shape=[3, 3],
                strides=[2, 2],
                pads=[1, 1, 1, 1],
                count_include_pad=1,
            ),
            node("Conv", "pool1 b", "one"),
            node("Conv", "pool1 c", "three", pads=[1, 1, 1, 1]),
            node("Concat", "one three", "last", axis=1),
        ],
        {"a": (4, 3, 3, 3), "b": (2, 4, 1, 1), "c": (4, 4, 3, 3)},
    ),
}


def made(kind: str, folder) -> Net:
    nodes, shapes = KINDS[kind]
    constants = {name: value.astype(np.float32) for name, value in weights(**shapes, w=(6, 4)).items()}
    model = nets.model([*nodes, *END], constants, shape=("batch", 3, *SIZE), about=ABOUT)
    return nets.save(model, folder / "net.onnx")


@pytest.fixture(autouse=True)
def to_the_end(monkeypatch):
    """As far as it can be gone, whether it is worth it or not: on pictures this small it hardly is."""

    def to_the_end(net, names, nodes, layers, costs, prices):
        return len(layers), sum(layer.cost for layer in layers) / sum(costs.values())

    monkeypatch.setattr(plans, "_end", to_the_end)
    monkeypatch.setattr(plans, "WORTH", np.inf)


@pytest.fixture(params=["", "cpu"], ids=["as it is", "in torch's memory"])
def place(request):
    """Where it runs: as this machine has it; and as on a GPU, with the CPU as torch's device."""
    with pytest.MonkeyPatch.context() as patched:
        if request.param:
            for module in (plans, parts):
                patched.setattr(module, "gpu", lambda net: request.param)
        yield request.param


def everywhere(sides: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Each row and each column once at least, corners too."""
    rng = np.random.default_rng(0)
    most = [side - s for side, s in zip(sides, size, strict=True)]
    rows = [(i, int(rng.integers(most[1] + 1))) for i in range(most[0] + 1)]
    cols = [(int(rng.integers(most[0] + 1)), j) for j in range(most[1] + 1)]
    return np.array([*rows, *cols, (0, 0), (0, most[1]), (most[0], 0), tuple(most)])


def both(net: Net, size: tuple[int, int] = (1, 1), **knobs: object) -> tuple[np.ndarray, np.ndarray, float]:
    """(n, K) logits by parts and of whole pictures, and how much a patch changes at most."""
    original = nets.picture(net.input_size, net.channels)
    places = everywhere(net.input_size, size)
    patches = np.random.default_rng(1).random((len(places), *size, net.channels)).astype(np.float32)
    whole = original[None].repeat(len(places), 0)
    for picture, (i, j), patch in zip(whole, places, patches, strict=True):
        picture[i : i + size[0], j : j + size[1]] = patch
    wanted = net.scores(net.batch(*whole))
    found = changed(net, original, [net.logits], size, **knobs)(places, patches)[net.logits]
    return found, wanted, float(np.abs(wanted - net.scores(net.batch(original))).max())


def plan(net: Net, size: tuple[int, int] = (1, 1)) -> plans.Plan | None:
    every = (np.arange(side - s + 1) for side, s in zip(net.input_size, size, strict=True))
    return plans.planned(net, [net.logits], size, *every)


@pytest.mark.parametrize("size", [(1, 1), (8, 5), (33, 64), SIZE], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_of_the_whole_picture(kind, size, place, tmp_path):
    net = made(kind, tmp_path)
    assert plan(net, size).means == {"mean": "last"}, "all of this can be gone in parts"
    found, wanted, effect = both(net, size)
    assert effect > 1e-3, "or else any numbers would do"
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    np.testing.assert_allclose(found, wanted, atol=1e-3 * effect)


@pytest.mark.parametrize("name", ["imagenette"])
def test_a_network_that_ships(name, place, monkeypatch):
    from engine.nets import available as known

    monkeypatch.undo()  # with what things cost
    net = Net(known.find(name))
    assert 0.1 < plan(net, (16, 16)).share < 0.8
    original = nets.picture(net.input_size, 3)
    places = everywhere(net.input_size, (16, 16))[-8:]
    whole = original[None].repeat(8, 0)
    for picture, (i, j) in zip(whole, places, strict=True):
        picture[i : i + 16, j : j + 16] = 0.5
    found = changed(net, original, [net.logits], (16, 16))(places, np.full((8, 16, 16, 3), 0.5, np.float32))
    np.testing.assert_allclose(found[net.logits], net.scores(net.batch(*whole)), atol=1e-4)


def test_on_a_gpu_calls_have_few_sizes(tmp_path, monkeypatch):
    """ONNX Runtime chooses anew how to convolve for each. What is asked in between leaves nothing behind."""
    for module in (plans, parts):
        monkeypatch.setattr(module, "gpu", lambda net: "cpu")
    monkeypatch.setattr(gpu, "AT_A_TIME", 12)
    net, seen = made("residual", tmp_path), set()
    run = bound.run
    monkeypatch.setattr(
        bound, "run", lambda session, feed, shapes: seen.update(map(len, feed.values())) or run(session, feed, shapes)
    )
    ask = changed(net, nets.picture(SIZE), [net.logits], (3, 4))
    places = everywhere(SIZE, (3, 4))
    patches = np.random.default_rng(0).random((len(places), 3, 4, 3)).astype(np.float32)
    together = ask(places, patches)[net.logits]
    assert ask.together <= 12
    assert seen <= {1, ask.together, ask.together // 2, ask.together // 4, ask.together // 8}
    few = [ask(places[k : k + 1], patches[k : k + 1])[net.logits][0] for k in range(20)]
    np.testing.assert_allclose(together[:20], few, atol=1e-6)


@pytest.mark.parametrize("wrong", [lambda x: x.permute(0, 1, 3, 2), lambda x: x.double()], ids=["turned", "double"])
def test_what_lies_otherwise_in_memory_is_not_bound(wrong, tmp_path):
    """ONNX Runtime is told an address only, and would take it for what it is not."""
    import torch

    net = made("a row", tmp_path)
    session = net.tap(["relu1"], {"image": np.zeros((1,) * 4, np.float32)})
    x = torch.from_numpy(net.normalise(net.batch(nets.picture(SIZE))))
    shapes = {"relu1": net.graph.shapes["relu1"]}
    found = bound.run(session, {"image": x}, shapes)["relu1"]
    np.testing.assert_allclose(found, net.activations(net.batch(nets.picture(SIZE)), ["relu1"])["relu1"], atol=1e-6)
    with pytest.raises(ValueError, match="'image' does not lie in memory"):
        bound.run(session, {"image": wrong(x)}, shapes)


def test_a_layer_on_the_way_is_had_whole(place, tmp_path):
    """Of a unit, say, the number is asked."""
    net = made("residual", tmp_path)
    original, places = nets.picture(SIZE), everywhere(SIZE, (3, 4))
    patches = np.ones((len(places), 3, 4, 3), np.float32)
    whole = original[None].repeat(len(places), 0)
    for picture, (i, j) in zip(whole, places, strict=True):
        picture[i : i + 3, j : j + 4] = 1
    names = ["conv3", "relu1", "logits"]
    wanted = net.activations(net.batch(*whole), names)
    found = changed(net, original, names, (3, 4))(places, patches)
    assert list(found) == names
    for name in names:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-5 * np.abs(wanted[name]).max())


def test_nothing_is_computed_of_what_cannot_have_changed(tmp_path):
    """By hand: three by three around a pixel, every second of them, then the pool."""
    net = made("a row", tmp_path)
    stages = plan(net).stages
    sizes = {cut.source: {axis.size.max() for axis in cut.windows} for stage in stages for cut in stage.cuts}
    # At most 2 positions of conv1 see a pixel, and 5 pixels; at most 2 of pool1 those, and 5; 6 of conv2 those, and 10.
    assert sizes == {"image": {5}, "relu1": {5}, "pool1": {10}}


def test_windows_have_few_sizes_and_none_is_too_small():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 9, (40, 3))
    weights = np.array([1.0, 5.0, 2.0])
    costs = []
    for most in (1, 2, 4, 40):
        found = projective_field.kinds(sizes, weights, most)
        assert found.shape == (40,)
        assert found.max() + 1 == min(most, len(np.unique(sizes, axis=0)))
        each = np.array([sizes[found == kind].max(0) for kind in range(found.max() + 1)])
        assert (each[found] >= sizes).all()
        costs.append(float((each[found] @ weights).sum()))
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == (sizes @ weights).sum()


def test_a_smaller_field_is_less_work_and_nearly_as_good(place, tmp_path):
    net = made("a row", tmp_path)
    _, wanted, effect = both(net, (16, 16))
    off = []
    for share in (0.5, 0.2):
        found, _, _ = both(net, (16, 16), field=share)
        off.append(float(np.sqrt(((found - wanted) ** 2).mean())) / effect)
    assert 1e-4 < off[0] < off[1] < 0.5
    picture = nets.picture(SIZE)
    shares = [changed(net, picture, [net.logits], (16, 16), field=share) for share in (1.0, 0.5, 0.2)]
    assert [each.exact for each in shares] == [True, False, False]
    assert shares[0].share > shares[1].share > shares[2].share


STOPS = {
    "numbers for each position": [node("Add", "relu1 position", "odd")],
    "a look at the whole": [node("GlobalAveragePool", "relu1", "all"), node("Mul", "relu1 all", "odd")],
    "a mean of fewer numbers at the edge": [
        node("AveragePool", "relu1", "odd", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    ],
    "a softmax along columns": [node("Softmax", "relu1", "odd", axis=3)],
    "a filter made of the picture": [
        node("Slice", "relu1 zero one axes", "filter"),
        node("Mul", "relu1 filter", "odd"),
    ],
}


@pytest.mark.parametrize("why", STOPS)
def test_it_goes_no_farther_than_where_positions_are_alike(why, place, tmp_path):
    nodes = [
        node("Conv", "image a", "conv1", pads=[1, 1, 1, 1]),
        node("Relu", "conv1", "relu1"),
        *STOPS[why],
        node("Conv", "odd b", "last", pads=[1, 1, 1, 1]),
        *END,
    ]
    constants = weights(a=(4, 3, 3, 3), b=(6, 4, 3, 3), w=(6, 4), position=(1, 1, *SIZE))
    constants = {name: value.astype(np.float32) for name, value in constants.items()}
    constants |= {"zero": np.array([0, 0]), "one": np.array([1, 1]), "axes": np.array([2, 3])}
    net = nets.save(nets.model([*nodes], constants, shape=("batch", 3, *SIZE), about=ABOUT), tmp_path / "net.onnx")
    assert plan(net).maps == ("relu1",)
    found, wanted, effect = both(net, (8, 5))
    np.testing.assert_allclose(found, wanted, atol=min(1e-6 * np.abs(wanted).max(), 0.1 * effect))


def test_where_it_is_not_worth_it_whole_pictures_are_asked_about(tiny, place, tmp_path, monkeypatch):
    fixed = made("a row", tmp_path)
    fixed.fixed_batch = 2  # as where it could not be freed
    assert plan(fixed) is None, "a batch of a size of its own"
    monkeypatch.undo()
    whole = plan(tiny)
    if plans.gpu(tiny):  # they are put together there
        assert (whole.stages, whole.maps, whole.share) == ((), ("image",), 1)
    else:
        assert whole is None, "a small picture"
    found, wanted, _ = both(tiny, (3, 2))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_network_that_begins_with_the_mean_is_asked_whole(place, tmp_path):
    """There is nothing to go by parts, and the numbers come all the same."""
    nodes = [
        node("GlobalAveragePool", "image", "mean"),
        node("Flatten", "mean", "flat"),
        node("Gemm", "flat w", "logits"),
    ]
    made = nets.model(nodes, {"w": weights(w=(3, 4))["w"].astype(np.float32)}, shape=("batch", 3, *SIZE), about=ABOUT)
    net = nets.save(made, tmp_path / "net.onnx")
    whole = plan(net)
    assert whole.maps == ("image",) if plans.gpu(net) else whole is None
    found, wanted, effect = both(net, (8, 5))
    assert effect > 1e-3
    np.testing.assert_array_equal(found, wanted)


def test_what_cannot_be_asked(place, tmp_path):
    net, picture = made("a row", tmp_path), nets.picture(SIZE)
    with pytest.raises(ValueError, match="at least one pixel"):
        changed(net, picture, ["logits"], (0, 3))
    with pytest.raises(ValueError, match="within the picture"):
        changed(net, picture, ["logits"], (8, 8), rows=[SIZE[0] - 7])
    ask = changed(net, picture, ["logits"], (8, 8), rows=[0, 8, 16])
    with pytest.raises(ValueError, match="none of those"):
        ask(np.array([[4, 0]]), np.zeros((1, 8, 8, 3), np.float32))


def test_a_network_that_nobody_uses_any_more_is_let_go(place, tmp_path):
    import gc
    import weakref

    net = made("a row", tmp_path)
    changed(net, nets.picture(SIZE), ["logits"], (1, 1))
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


def drawn(rng: np.random.Generator, folder) -> Net:
    """A network of random layers, of all the kinds whose positions are treated alike, on a picture of random size."""
    size = tuple(int(n) for n in rng.integers(40, 80, 2))
    nodes, constants, count = [], {}, 0
    name, channels, sides = "image", 3, list(size)

    def constant(*shape: int) -> str:
        constants[f"w{len(constants)}"] = rng.normal(0, 1 / np.sqrt(max(np.prod(shape[1:]), 1)), shape)
        return f"w{len(constants) - 1}"

    def add(op: str, inputs: str, **attributes) -> str:
        nonlocal count
        count += 1
        nodes.append(node(op, inputs, f"t{count}", **attributes))
        return f"t{count}"

    def conv(name: str, channels: int, out: int, kernel: int, groups: int = 1, **attributes) -> str:
        filters = constant(out, channels // groups, kernel, kernel)
        return add("Conv", f"{name} {filters} {constant(out)}", group=groups, **attributes)

    for _ in range(int(rng.integers(4, 9))):
        kind = rng.choice(["conv", "strided", "dilated", "groups", "pool", "mean", "skip", "branches", "pad", "norm"])
        if min(sides) < 12 and kind in ("strided", "dilated", "pool", "mean"):
            kind = "skip"
        kernel = int(rng.choice([1, 2, 3, 5]))
        if kind == "conv":
            pads = [int(n) for n in rng.integers(0, 3, 4)]
            name, channels = conv(name, channels, 4, kernel, pads=pads), 4
            sides = [side + pads[k] + pads[k + 2] - kernel + 1 for k, side in enumerate(sides)]
        elif kind == "strided":
            strides = [int(n) for n in rng.integers(1, 4, 2)]
            name, channels = conv(name, channels, 4, 3, strides=strides, auto_pad="SAME_LOWER"), 4
            sides = [-(-side // step) for side, step in zip(sides, strides, strict=True)]
        elif kind == "dilated":
            name, channels = conv(name, channels, 4, 3, dilations=[2, 3], pads=[2, 1, 0, 1]), 4
            sides = [sides[0] - 2, sides[1] - 4]
        elif kind == "groups":
            name = conv(name, channels, channels, 3, groups=channels, pads=[1, 1, 1, 1])
        elif kind == "pool":
            name = add("MaxPool", name, kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 1, 1], ceil_mode=1)
            sides = [sides[0] // 2, sides[1] // 3]
        elif kind == "mean":
            name = add("AveragePool", name, kernel_shape=[2, 3], strides=[1, 2], pads=[1, 1, 0, 1], count_include_pad=1)
            sides = [sides[0], (sides[1] - 1) // 2 + 1]
        elif kind == "skip":
            inner = add("Relu", conv(name, channels, channels, 3, pads=[1, 1, 1, 1]))
            name = add("Add", f"{inner} {name}")
        elif kind == "branches":
            wide = conv(name, channels, 3, 5, pads=[2, 2, 2, 2])
            name, channels = add("Concat", f"{conv(name, channels, 2, 1)} {wide} {name}", axis=1), 5 + channels
        elif kind == "pad":
            amounts = [0, 0, *(int(n) for n in rng.integers(0, 3, 2)), 0, 0, *(int(n) for n in rng.integers(0, 3, 2))]
            constants[f"pads{count}"] = np.array(amounts)
            constants[f"value{count}"] = np.array(0.7, np.float32)
            sides = [side + amounts[2 + k] + amounts[6 + k] for k, side in enumerate(sides)]
            name = add("Pad", f"{name} pads{count} value{count}")
        else:
            numbers = [constant(channels) for _ in range(3)]
            constants[f"v{count}"] = rng.uniform(0.5, 2, channels)
            name = add("BatchNormalization", f"{name} {' '.join(numbers)} v{count}")
        if rng.random() < 0.5:
            name = add(str(rng.choice(["Relu", "LeakyRelu", "Sigmoid"])), name)
    nodes += [node("GlobalAveragePool", name, "mean"), node("Flatten", "mean", "flat")]
    nodes.append(node("Gemm", f"flat {constant(channels, 4)}", "logits"))
    constants = {
        key: value if value.dtype == np.int64 else value.astype(np.float32) for key, value in constants.items()
    }
    about = nets.Metadata(labels=nets.LABELS, input_size=size, mean=nets.MEAN, std=nets.STD)
    return nets.save(nets.model(nodes, constants, shape=("batch", 3, *size), about=about), folder / "net.onnx")


@pytest.mark.parametrize("seed", range(40))
def test_networks_and_patches_drawn_at_random(seed, place, tmp_path):
    rng = np.random.default_rng(seed)
    net = drawn(rng, tmp_path)
    size = tuple(int(min(np.exp(rng.uniform(0, np.log(65))), side)) for side in net.input_size)
    assert plan(net, size).means.keys() == {"mean"}
    found, wanted, effect = both(net, size)
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, atol=min(1e-5 * scale, max(0.1 * effect, 1e-6 * scale)))
