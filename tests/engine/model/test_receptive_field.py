"""Does a unit see exactly the pixels that its receptive field says? Each pixel is changed, and who notices is compared.

All weights are positive and the picture is black, so that one bright pixel raises everything that sees it and nothing
cancels.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
import small_nets as nets
from small_nets import node

from engine.model import graph as graphs
from engine.model.receptive_field import ReceptiveField, pads, receptive_fields

SIZE = (28, 35)


def build(nodes, constants, size=SIZE, opset=18):
    """(fields, boxes) of every map: boxes (h, w, 4) hold top, left, bottom, right of what alters each unit."""
    made = nets.model(nodes, constants, shape=("batch", 1, *size), opset=opset)
    graph = graphs.read(made, (1, 1, *size))
    names = [n.outputs[0] for n in graph.nodes if len(graph.shapes.get(n.outputs[0], ())) == 4]
    del made.graph.output[:]
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, ["CPUExecutionProvider"])
    pixels = size[0] * size[1]
    impulses = np.concatenate([np.zeros((1, pixels)), np.eye(pixels)]).astype(np.float32).reshape(-1, 1, *size)
    boxes = {}
    for name, out in zip(names, session.run(names, {"image": impulses}), strict=True):
        seen = (out[1:] != out[:1]).any(1).reshape(*size, *out.shape[2:])  # (H, W, h, w)
        boxes[name] = np.stack([*_span(seen.any(1)), *_span(seen.any(0))], -1)[..., [0, 2, 1, 3]]
    return receptive_fields(graph), boxes


def _span(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last True along axis 0; 0 and 0 where there is none."""
    first, last = seen.argmax(0), len(seen) - seen[::-1].argmax(0)
    return first, np.where(seen.any(0), last, 0)


def conv(name, source, kernel, constants, *, channels=2, inputs=None, group=1, **attributes):
    inputs = channels if inputs is None else inputs
    constants[f"w.{name}"] = np.ones((channels, inputs // group, *kernel), np.float32)
    return node("Conv", f"{source} w.{name}", name, group=group, **attributes)


class RandomNet:
    """A random chain of everything whose field is claimed to be exact.

    Behind a crop nothing is padded: at the edge of a crop a padded window ends where the crop does, not the picture.
    """

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.cropped, self.strided = [], {}, False, 0
        self.name, self.channels = "image", 1
        kinds = [self.convolution, self.pool] * 2 + [self.branches, self.padding, self.crop, self.plain]
        for index in range(self.rng.integers(2, 5)):
            self.rng.choice(kinds)(f"t{index}")

    def pick(self, *values):
        return values[self.rng.integers(len(values))]

    def pair(self, low, high):
        return [int(v) for v in self.rng.integers(low, high + 1, 2)]

    def strides(self):
        """Of the next layer; one where the map is small by now."""
        found = self.pair(1, 2) if self.strided < 2 else [1, 1]
        self.strided += found != [1, 1]
        return found

    def add(self, *made, channels=None):
        self.nodes += made
        self.name, self.channels = made[-1].output[0], channels or self.channels

    def edges(self, limit):
        """Padding of the four sides, at most `limit` (rows, cols); or one of ONNX's automatic ones."""
        kind = self.pick("explicit", "explicit", "none", "SAME_UPPER", "SAME_LOWER", "VALID")
        if self.cropped:
            return {}
        if kind == "none":
            return {"pads": [0, 0, 0, 0]}
        if kind != "explicit":
            return {"auto_pad": kind}
        return {"pads": [int(self.rng.integers(0, side + 1)) for side in (*limit, *limit)]}

    def convolution(self, name):
        kernel = self.pair(1, 4)
        how = {"strides": self.strides(), **self.edges([2, 2])}
        if "auto_pad" not in how:
            how["dilations"] = self.pair(1, 2)
        if self.name != "image" and self.pick(True, False):
            how["group"] = self.channels
        channels = 2 * self.channels if self.channels < 3 else self.channels
        self.add(
            conv(name, self.name, kernel, self.constants, channels=channels, inputs=self.channels, **how),
            channels=channels,
        )

    def pool(self, name):
        strides = self.strides()
        kernel = [stride + more for stride, more in zip(strides, self.pair(0, 1), strict=True)]
        how = {"kernel_shape": kernel, "strides": strides, **self.edges([k - 1 for k in kernel])}
        if how.get("pads") == [0, 0, 0, 0]:  # with pads, onnx infers a position more than ONNX Runtime computes
            how["ceil_mode"] = self.pick(0, 1)
        if self.pick(True, False):
            self.add(
                node("MaxPool", self.name, name, dilations=self.pair(1, 2) if "auto_pad" not in how else [1, 1], **how)
            )
        else:
            self.add(node("AveragePool", self.name, name, count_include_pad=self.pick(0, 1), **how))

    def branches(self, name):
        """Two ways of different kernels, off centre, that meet."""
        if self.cropped:
            return self.plain(name)
        ways = []
        for way in "ab":
            kernel = self.pair(1, 5)
            first = [int(self.rng.integers(0, k)) for k in kernel]
            how = {"pads": [*first, *(k - 1 - f for k, f in zip(kernel, first, strict=True))]}
            ways.append(
                conv(f"{name}{way}", self.name, kernel, self.constants, channels=2, inputs=self.channels, **how)
            )
        meet = self.pick("Add", "Concat", "Sum", "Max")
        how = {"axis": self.pick(1, -3)} if meet == "Concat" else {}
        self.add(*ways, node(meet, f"{name}a {name}b", name, **how), channels=4 if meet == "Concat" else 2)
        return None

    def padding(self, name):
        if self.cropped:
            return self.plain(name)
        amounts = [int(v) for v in self.rng.integers(-2, 4, 4)]
        self.cropped = min(amounts) < 0
        if self.pick(True, False):
            self.constants[f"p.{name}"] = np.array([0, 0, *amounts[:2], 0, 0, *amounts[2:]])
            self.add(node("Pad", f"{self.name} p.{name}", name))
        else:  # some axes only, columns first and counted from the end
            self.constants |= {f"p.{name}": np.array(amounts), f"a.{name}": np.array([-1, 2])}
            self.add(node("Pad", f"{self.name} p.{name} _ a.{name}", name))
        return None

    def crop(self, name):
        if self.cropped:
            return self.plain(name)
        self.cropped = True
        self.constants[f"s.{name}"] = np.array([self.pick(0, 1, -14), self.pick(0, 2, -17)])
        self.constants[f"e.{name}"] = np.array([1000, self.pick(1000, -1)])
        self.constants[f"a.{name}"] = np.array(self.pick([2, 3], [3, 2], [-1, -2]))
        self.constants[f"k.{name}"] = np.array(self.strides())
        self.add(node("Slice", f"{self.name} s.{name} e.{name} a.{name} k.{name}", name))
        return None

    def plain(self, name):
        op = self.pick("Relu", "LRN", "Mul", "BatchNormalization", "Clip", "LeakyRelu")
        if op == "Mul":
            self.constants[f"k.{name}"] = np.full((1, self.channels, 1, 1), 2, np.float32)
            self.add(node("Mul", f"k.{name} {self.name}", name))
        elif op == "BatchNormalization":
            for key, value in {"s": 2, "b": 0, "m": 0, "v": 1}.items():
                self.constants[f"{key}.{name}"] = np.full(self.channels, value, np.float32)
            self.add(node(op, f"{self.name} s.{name} b.{name} m.{name} v.{name}", name))
        elif op == "Clip":
            self.constants[f"k.{name}"] = np.array(-1, np.float32)
            self.add(node(op, f"{self.name} k.{name}", name))
        else:
            self.add(node(op, self.name, name, **({"size": 3} if op == "LRN" else {})))


@pytest.mark.parametrize("seed", range(40))
def test_random_nets(seed):
    net = RandomNet(seed)
    fields, boxes = build(net.nodes, net.constants)
    inner = 0
    for name, box in boxes.items():
        field = fields[name]
        assert 0 not in field.stride, f"{name} was given the whole picture"
        for place in np.ndindex(box.shape[:2]):
            top, left, bottom, right = field.window(*place, SIZE)
            found = tuple(int(v) for v in box[place])
            if found[0] < found[2] and found[1] < found[3]:  # it sees something: nothing outside the window
                assert top <= found[0] < found[2] <= bottom, (name, place)
                assert left <= found[1] < found[3] <= right, (name, place)
            start = [o + p * s for o, p, s in zip(field.offset, place, field.stride, strict=True)]
            if all(a >= 0 and a + k <= side for a, k, side in zip(start, field.size, SIZE, strict=True)):
                assert found == (top, left, bottom, right), (name, place)
                inner += 1
    assert inner > 100  # units that lie inside the picture with all that they see


@pytest.mark.parametrize("seed", range(12))
def test_chains_of_padded_convolutions_are_exact_at_the_edges_and_corners_too(seed):
    rng, constants, nodes = np.random.default_rng(seed), {}, []
    names = ["image", *(f"t{i}" for i in range(rng.integers(1, 5)))]
    for before, name in pairwise(names):
        kernel = rng.integers(1, 6, 2)
        begin = rng.integers(0, kernel)
        how = {"pads": [int(v) for v in (*begin, *(kernel - 1 - begin))]}
        nodes.append(conv(name, before, [int(k) for k in kernel], constants, channels=1, **how))
    fields, boxes = build(nodes, constants, (17, 14))
    for name, box in boxes.items():
        expected = [[fields[name].window(row, col, (17, 14)) for col in range(14)] for row in range(17)]
        np.testing.assert_array_equal(box, expected, err_msg=name)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("size", [(13, 16), (14, 15)])
def test_automatic_padding_of_even_kernels_leans_to_the_stated_side(auto, size):
    constants = {}
    nodes = [conv("a", "image", (2, 4), constants, channels=1, auto_pad=auto, strides=[2, 3])]
    fields, boxes = build(nodes, constants, size)
    assert boxes["a"].shape[:2] == (7, -(-size[1] // 3))
    expected = [[fields["a"].window(row, col, size) for col in range(boxes["a"].shape[1])] for row in range(7)]
    np.testing.assert_array_equal(boxes["a"], expected)


def test_pads_by_hand():
    same = {"strides": [2, 1], "dilations": [1, 2]}
    assert pads({**same, "auto_pad": "SAME_UPPER"}, [4, 2], (9, 9)) == [1, 1, 2, 1]  # rows: 5 out, 4*2+4-9 = 3 in all
    assert pads({**same, "auto_pad": "SAME_LOWER"}, [4, 2], (9, 9)) == [2, 1, 1, 1]
    assert pads({**same, "auto_pad": "SAME_UPPER"}, [1, 1], (9, 9)) == [0, 0, 0, 0]
    assert pads({"auto_pad": "VALID", "pads": [1, 1, 1, 1]}, [3, 3], (9, 9)) == [0, 0, 0, 0]
    assert pads({"pads": (1, 2, 3, 4)}, [3, 3], (9, 9)) == [1, 2, 3, 4]
    assert pads({}, [3, 3], (9, 9)) == [0, 0, 0, 0]


def fields_of(nodes, constants, size, opset=18):
    return receptive_fields(graphs.read(nets.model(nodes, constants, shape=(1, 1, *size), opset=opset), (1, 1, *size)))


def test_three_by_three_again_and_again():
    """Each adds a ring of one pixel, which is why VGG stacks them."""
    constants, names = {}, ["image", *(f"t{i}" for i in range(1, 6))]
    nodes = [conv(b, a, (3, 3), constants, channels=1, pads=[1, 1, 1, 1]) for a, b in pairwise(names)]
    found = fields_of(nodes, constants, (20, 30))
    for count in range(1, 6):
        assert found[f"t{count}"] == ReceptiveField((2 * count + 1,) * 2, (1, 1), (-count, -count))


def test_the_input_sees_itself():
    constants = {}
    found = fields_of([conv("a", "image", (3, 3), constants, channels=1)], constants, (5, 7))
    assert found["image"] == ReceptiveField((1, 1), (1, 1), (0, 0))


def test_alexnet_by_hand():
    """(kernel, stride, padding) of torchvision's; 163 and 195 pixels are the numbers that Araujo 2019 gives."""
    layers = [
        ("conv1", 11, 4, 2), ("pool1", 3, 2, 0), ("conv2", 5, 1, 2), ("pool2", 3, 2, 0), ("conv3", 3, 1, 1),
        ("conv4", 3, 1, 1), ("conv5", 3, 1, 1), ("pool5", 3, 2, 0),
    ]  # fmt: skip
    constants, nodes, before = {}, [], "image"
    for name, kernel, stride, padding in layers:
        how = {"strides": [stride] * 2, "pads": [padding] * 4}
        if "pool" in name:
            nodes.append(node("MaxPool", before, name, kernel_shape=[kernel] * 2, **how))
        else:
            nodes.append(conv(name, before, (kernel, kernel), constants, channels=1, **how))
        before = name
    found = fields_of(nodes, constants, (224, 224))
    expected = {
        "conv1": (11, 4, -2), "pool1": (19, 8, -2), "conv2": (51, 8, -18), "pool2": (67, 16, -18),
        "conv3": (99, 16, -34), "conv4": (131, 16, -50), "conv5": (163, 16, -66), "pool5": (195, 32, -66),
    }  # fmt: skip
    for name, (size, stride, offset) in expected.items():
        assert found[name] == ReceptiveField((size,) * 2, (stride,) * 2, (offset,) * 2), name


def test_rows_and_columns_are_not_mixed_up():
    constants = {}
    nodes = [conv("a", "image", (5, 2), constants, channels=1, strides=[1, 3], pads=[4, 0, 0, 1], dilations=[2, 1])]
    assert fields_of(nodes, constants, (20, 30))["a"] == ReceptiveField(size=(9, 2), stride=(1, 3), offset=(-4, 0))


def test_a_window_is_cut_at_the_pictures_edge():
    field = ReceptiveField(size=(5, 7), stride=(2, 3), offset=(-2, -1))
    assert field.window(0, 0, (10, 20)) == (0, 0, 3, 6)
    assert field.window(2, 3, (10, 20)) == (2, 8, 7, 15)
    assert field.window(4, 6, (10, 20)) == (6, 17, 10, 20)
    assert field.window(20, 30, (10, 20)) == (10, 20, 10, 20)  # a unit that lies in the padding sees nothing


WHOLE = ReceptiveField((10, 14), (0, 0), (0, 0))
W = {"w": np.ones((1, 1, 3, 3), np.float32), "axes": np.array([2, 3])}
A = node("Conv", "image w", "a", pads=[1, 1, 1, 1])


@pytest.mark.parametrize(
    "nodes",
    [
        [node("GlobalAveragePool", "image", "out")],
        [node("Flatten", "image", "out")],
        [node("GlobalMaxPool", "a", "g"), node("Sigmoid", "g", "s"), node("Mul", "a s", "out")],
        [node("ReduceMean", "a axes", "g"), node("Add", "g a", "out")],
        [node("GlobalMaxPool", "a", "g"), node("Mul", "a g", "m"), node("Conv", "m w", "out", pads=[1, 1, 1, 1])],
        [node("Conv", "image all", "g"), node("Mul", "a g", "out")],
        [node("Resize", "a _ scales", "out", mode="nearest")],
        [node("Transpose", "a", "out", perm=[0, 1, 3, 2])],
        [node("Pad", "a p", "out", mode="reflect")],
        [node("Softmax", "a", "out", axis=-1)],
        [node("Concat", "a a", "out", axis=2)],
        [node("Slice", "a starts ends axes steps", "out")],
        [node("InstanceNormalization", "a one one", "out")],
    ],
    ids=lambda nodes: "-".join(n.op_type for n in nodes),
)
def test_what_mixes_far_places_sees_the_whole_picture(nodes):
    constants = {
        **W,
        "all": np.ones((1, 1, 10, 14), np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "p": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "starts": np.array([-1, -1]),
        "ends": np.array([-100, -100]),
        "steps": np.array([-1, -1]),
        "one": np.ones(1, np.float32),
    }
    found = fields_of([A, *nodes], constants, (10, 14))["out"]
    assert found == WHOLE
    assert found.window(3, 4, (10, 14)) == (0, 0, 10, 14)


@pytest.mark.parametrize(("opset", "expected"), [(13, (3, 3)), (12, (10, 14))])
def test_a_softmax_across_channels_mixes_places_only_in_old_operator_sets(opset, expected):
    """Before operator set 13 it flattened everything behind its axis."""
    assert fields_of([A, node("Softmax", "a", "out", axis=1)], W, (10, 14), opset)["out"].size == expected


def test_a_shortcut_of_another_stride_is_the_whole_picture():
    """The two do not advance alike, so that no one window fits every unit."""
    nodes = [
        node("MaxPool", "image", "a", kernel_shape=[1, 2], strides=[1, 2]),
        node("Slice", "image zero seven last", "b"),
        node("Add", "a b", "out"),
    ]
    constants = {"zero": np.array([0]), "seven": np.array([7]), "last": np.array([3])}
    assert fields_of(nodes, constants, (10, 14))["out"] == WHOLE
