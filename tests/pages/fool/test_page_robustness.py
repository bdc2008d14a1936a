"""Robustness: are curves, table, words and downloads the engine's, of the networks and attacks that were chosen?"""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import small_nets as small
from test_pages import charts, check, chosen, fine, home, opened, run, scene, shown, tables  # noqa: F401

from engine.data import sets
from engine.explain.saliency import signed_saliency
from engine.fool import robustness as robust
from engine.fool.robustness import METHODS, curves, sizes
from engine.net import Net
from engine.nets import available
from engine.pictures import samples
from engine.step import Step
from ui.jobs import line

LINK = {"net": "honest", "count": 6, "steps": 2, "farthest": 24}
KNOBS = {"pictures": 6, "steps": 2, "epsilons": sizes(24 / 255, "L∞")}


@pytest.fixture(scope="module")
def pair() -> list[Net]:
    return [Net(available.find("honest")), Net(available.find("clever_hans"))]


@pytest.fixture(scope="module")
def of_pair(pair) -> pd.DataFrame:
    return curves(pair, sets.find("planted"), **KNOBS)


def csv(given: dict[str, bytes]) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(given["curve.csv"]))


def shares(at) -> pd.DataFrame:
    """The curves' data as the chart has them."""
    (chart,) = (each for each in charts(at) if "over epsilon" in each.alt)
    return pd.DataFrame(next(table for table in tables(chart) if "share" in table))


def words(at) -> str:
    return "\n".join(each.value for each in [*at.markdown, *at.caption])


# The numbers ----------------------------------------------------------------------------------------------------------


def test_curves_table_words_and_downloads_are_the_engines(of_pair, given):
    at = opened("robustness", **LINK)
    assert fine(at)
    assert chosen(at, "compared") == ["clever_hans"]
    pd.testing.assert_frame_equal(csv(given), of_pair, check_dtype=False)
    with np.load(io.BytesIO(given["robustness.npz"])) as arrays:
        np.testing.assert_array_equal(arrays["right"], of_pair["right"])
    drawn = shares(at)
    np.testing.assert_allclose(drawn["share"], of_pair.accuracy, atol=1e-5)
    np.testing.assert_allclose(drawn[["low", "high"]], of_pair[["low", "high"]], atol=1e-5)
    np.testing.assert_allclose(drawn["x"], of_pair.epsilon * 255, atol=1e-5)
    assert drawn["told"].tolist() == [f"{row.right} of 6" for row in of_pair.itertuples()]
    table = at.dataframe[0].value
    assert table["Epsilon"].tolist() == [f"{k}/255" for k in (0, 2, 3, 6, 12, 18, 24)]
    for (name, method), part in of_pair.groupby(["net", "attack"]):
        told = [f"{row.accuracy:.0%} ({row.low:.0%} to {row.high:.0%})" for row in part.itertuples()]
        assert table[f"{method} on {name}"].tolist() == told
    middle = of_pair[(of_pair.epsilon * 255).round() == 12]
    for name, part in middle.groupby("net"):
        pgd, fgsm, by_lot = (part[part.attack == method].accuracy.item() for method in METHODS)
        said = f"PGD leaves {pgd:.0%} of 6 pictures right, FGSM {fgsm:.0%}, random noise of that size {by_lot:.0%}."
        assert f"**{name}**: at 12/255, {said}" in words(at)
    assert "classes are the data set's labels" in words(at)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("link", "knobs"),
    [
        ({"norm": "L2", "longest": 1.0, "seed": 3}, {"norm": "L2", "epsilons": sizes(1.0, "L2"), "seed": 3}),
        ({"net": "imagenette", "steps": 1, "count": 4, "farthest": 4, "data": "planted"}, None),
    ],
    ids=["L2", "by prediction"],
)
def test_what_is_chosen_is_what_is_measured(pair, given, link, knobs):
    at = opened("robustness", **LINK | link)
    assert fine(at)
    if knobs is not None:
        pd.testing.assert_frame_equal(
            csv(given), curves(pair, sets.find("planted"), **KNOBS | knobs), check_dtype=False
        )
        assert at.dataframe[0].value["Epsilon"].tolist() == ["0", "0.0625", "0.125", "0.25", "0.5", "0.75", "1"]
        assert "at a length of 0.5, PGD leaves" in words(at)
        return
    found = csv(given)
    assert set(found.known) == {"prediction"}
    assert set(found["count"]) == {4}
    assert "the share that keeps it" in words(at), "it is said that nothing else is known"


def test_python_and_the_command_line_give_the_numbers_of_the_page(monkeypatch, tmp_path, given):
    found = shown(monkeypatch, "robustness", {**LINK, "seed": 2, "norm": "L2"})
    check(found, tmp_path)
    assert "--beside clever_hans" in found.shell
    made = (tmp_path / "result" / "curve.csv").read_bytes()
    assert given["curve.csv"] == made


# What is chosen -------------------------------------------------------------------------------------------------------


def test_a_link_restores_its_state():
    link = {"net": "digits", "count": "4", "steps": "1", "norm": "L2", "longest_grey": "2.5", "seed": "5"}
    at = opened("robustness", **link)
    assert fine(at)
    assert {key: f"{value:g}" if isinstance(value := chosen(at, key), float) else str(value) for key in link} == link
    assert at.query_params == link


def test_digits_stand_beside_those_that_were_trained_on_attacked_pictures():
    """In both directions; single-channel networks state their classes, too."""
    names = {"digits", "digits_robust"}
    for name in names & {*available.at_hand()}:
        at = opened("robustness", net=name, count=4, steps=1)
        assert fine(at)
        assert set(at.multiselect(key="compared").options) == names & {*available.at_hand()} - {name}
        assert chosen(at, "compared") == [*names & {*available.at_hand()} - {name}]
    assert available.labels(available.find("digits")) == tuple("0123456789")


def test_alone_there_is_nothing_to_compare(given):
    at = opened("robustness", **LINK)
    at.multiselect(key="compared").set_value([])
    at.multiselect(key="attacks").set_value(["noise"])
    assert fine(run(at))
    assert set(csv(given)["net"]) == {"honest"}
    assert list(at.dataframe[0].value) == ["Epsilon", "noise"]
    assert "At 12/255, random noise of that size leaves 100% of 6 pictures right." in words(at)
    assert "What do they go by?" not in words(at)
    at.multiselect(key="attacks").set_value([])
    assert fine(run(at))
    assert [each.value for each in at.info] == ["Choose at least one attack."]


@pytest.mark.usefixtures("no_celu")
def test_a_network_whose_gradients_cannot_be_had_is_left_out(home, given):  # noqa: F811
    folder = home / "networks"
    model = small.tiny(about=small.ABOUT)
    (folder / "plain.onnx").write_bytes(model.SerializeToString())
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Celu"
    (folder / "soft.onnx").write_bytes(model.SerializeToString())
    (folder / "broken.onnx").write_bytes(b"not a network")
    at = opened("robustness", net="plain", count=4, steps=1)
    assert fine(at)
    assert at.multiselect(key="compared").options == ["soft"], "of the same classes, but not of those that ship"
    assert not chosen(at, "compared")
    at.multiselect(key="compared").set_value(["soft"])
    assert fine(run(at))
    assert any(each.value.startswith("soft cannot be attacked") and "Celu" in each.value for each in at.caption)
    assert set(csv(given)["net"]) == {"plain"}


# On the way -----------------------------------------------------------------------------------------------------------


def test_what_was_broken_off_stays_and_can_go_on(of_pair, given, monkeypatch):
    resumed = []

    def steps(networks, data, *, resume=None, **knobs):
        if resume is None:
            yield Step(9, 42, of_pair[:9])
            line.of("CPU").running.cancelled.set()
            yield Step(10, 42, of_pair[:10])
            return
        resumed.append(resume)
        yield Step(42, 42, of_pair)

    monkeypatch.setattr(robust, "curves_steps", steps)
    at = opened("robustness", **LINK, seed=77)
    assert fine(at)
    assert len(csv(given)) == 10
    table = at.dataframe[0].value
    assert table["PGD on honest"].all()
    assert table["FGSM on honest"].astype(bool).tolist() == [True] * 3 + [False] * 4, "the others are still to come"
    at.button(key="continue_robustness").click()
    assert fine(run(at))
    (before,) = resumed
    assert len(before) == 10
    pd.testing.assert_frame_equal(csv(given), of_pair, check_dtype=False)


# What do they go by? --------------------------------------------------------------------------------------------------


def test_the_gradients_of_the_compared_networks_are_side_by_side(pair):
    at = opened("robustness", **LINK, image="planted-disc-square", **{"class": "square"})
    assert fine(at)
    assert [each.alt for each in charts(at) if "gradient" in each.alt] == [
        f"The gradient of {net.name} at every pixel." for net in pair
    ]
    for net in pair:
        pixels, _ = net.view(samples.load("planted-disc-square"))
        values = signed_saliency(net, pixels, net.labels.index("square"))
        top = np.percentile(np.abs(values), 99.5)
        assert f"Full colour: {top:.3g} logits per unit of pixel value." in words(at)
    assert scene(at).class_name == "square"
    assert "What do they go by? The gradient for “square”" in words(at)
