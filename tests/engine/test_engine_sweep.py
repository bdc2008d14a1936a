"""Every public function of the engine of the form (net, image, …), also one that is written tomorrow.

Nothing is registered: the functions are found in the files of engine/ and called on `tiny` with arguments made from
their parameters' names. The results must be numbers, the same each time, and leave what was given as it was.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_nets as nets
import torch

from engine.net import Net
from engine.nets.folder import PROJECT
from engine.step import Step
from engine.target import Target, class_score

ENGINE = PROJECT / "engine"

# What a parameter without a default is given.
GIVEN = {
    "target": lambda net: class_score(net, 1),
    "classes": lambda net: [3, 1],
    "found": lambda net: nets.picture((4, 6), seed=1).mean(2),
    "layer": lambda net: net.last_map,
    "layers": lambda net: [net.last_map, net.layers[0].name],
    "channel": lambda net: 0,
    "row": lambda net: 1,
    "col": lambda net: 2,
    "style": lambda net: nets.picture(net.input_size, net.channels, seed=1),
    "other": lambda net: nets.picture(net.input_size, net.channels, seed=1),
    "mask": lambda net: np.arange(np.prod(net.input_size)).reshape(net.input_size) % 3 == 0,
    "saliency_map": lambda net: nets.picture(net.input_size, net.channels, seed=1).mean(2),
}
# What a parameter with a default is given nonetheless, so that a run on small pictures is short, but not empty.
SMALL = {
    "steps": 3,
    "patch": 4,
    "stride": 4,
    "samples": 4,
    "masks": 20,
    "copies": 4,
    "points": 3,
    "rounds": 2,
    "stages": 2,
    "methods": "Grad-CAM, Gradient, Score-CAM",
}


def methods(folder: Path = ENGINE) -> list[tuple[str, str]]:
    """(module, function) of all public functions whose first parameters are (net, image), found without importing.

    A Target is no result but a question, and so is left out.
    """
    found = []
    for file in sorted(folder.glob("**/[!_]*.py")):
        if file.parent.name == "cli":  # commands, which may begin so, too
            continue
        for part in ast.parse(file.read_text("utf-8")).body:
            makes_target = isinstance(getattr(part, "returns", None), ast.Name) and part.returns.id == "Target"
            if isinstance(part, ast.FunctionDef) and not part.name.startswith("_") and not makes_target:
                names = [a.arg for a in (*part.args.posonlyargs, *part.args.args)]
                if names[:2] == ["net", "image"]:
                    module = ".".join(file.relative_to(folder).with_suffix("").parts)
                    found.append((module, part.name))
    return found


def arguments(function, net: Net) -> dict[str, Any]:
    """What `function` is called with besides net and image. Fails, saying what to do, where a parameter is unknown."""
    found = {}
    for name, parameter in list(inspect.signature(function).parameters.items())[2:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.default is not parameter.empty:
            if name in SMALL:
                found[name] = SMALL[name]
        elif name == "target" and str(parameter.annotation) == "int":
            found[name] = 1  # a class, and nothing else
        elif name in GIVEN:
            found[name] = GIVEN[name](net)
        else:
            pytest.fail(
                f"{function.__module__}.{function.__name__} has a parameter {name!r} without a default that the sweep "
                f"knows nothing of: give it a default, or tell GIVEN in {Path(__file__).name} what to pass."
            )
    return found


def finished(result: Any) -> Any:
    """A run's last result, with its reports looked at on the way; anything else as it is."""
    if not isinstance(result, Iterator):
        return result
    steps = list(result)
    assert steps, "a run of no steps"
    assert all(isinstance(step, Step) for step in steps), "a run reports by Step"
    assert len({step.total for step in steps}) == 1, "the total changes on the way"
    indices = [step.index for step in steps]
    assert indices == sorted(set(indices)), "the index does not grow"
    assert indices[0] >= 0, "the index begins below 0"
    assert indices[-1] == steps[-1].total, "the run ends before its total"
    return steps[-1].result


def numbers(result: Any, place: str = "result") -> Iterator[tuple[str, Any]]:
    """Every (place, plain value or array) in a result of one of the kinds that the engine may return."""
    if isinstance(result, np.ndarray):
        assert result.dtype.kind in "biuf", f"{place} is an array of {result.dtype}"
        yield place, result
    elif isinstance(result, pd.DataFrame):
        for column in result:
            values = result[column].to_numpy()
            yield f"{place}.{column}", list(values) if values.dtype.kind not in "biuf" else values
    elif isinstance(result, torch.Tensor):  # what a run keeps to go on with
        yield from numbers(result.numpy(), place)
    elif dataclasses.is_dataclass(result):
        assert result.__dataclass_params__.frozen, f"{place} is a dataclass that is not frozen"
        for field in dataclasses.fields(result):
            yield from numbers(getattr(result, field.name), f"{place}.{field.name}")
    elif isinstance(result, Mapping):
        for key, value in result.items():
            yield from numbers(value, f"{place}[{key!r}]")
    elif isinstance(result, (list, tuple)):
        for index, value in enumerate(result):
            yield from numbers(value, f"{place}[{index}]")
    elif result is None or isinstance(result, (str, bool, int, float, np.generic)):
        yield place, result
    else:
        pytest.fail(
            f"{place} is a {type(result).__name__}; the engine returns arrays, data frames, frozen dataclasses of "
            "them, and iterators of Step."
        )


@pytest.mark.parametrize(("module", "name"), methods(), ids=lambda part: part)
def test_a_method_returns_the_same_numbers_each_time_and_touches_nothing(tiny, picture, module, name):
    function = getattr(importlib.import_module(f"engine.{module}"), name)
    given = arguments(function, tiny)
    before = {key: value.copy() for key, value in given.items() if isinstance(value, np.ndarray)}
    weights = {key: tensor.clone() for key, tensor in tiny.twin.constants.items()}
    scores, table = tiny.scores(tiny.batch(picture)), dict(twin_ops())
    first, again = (list(numbers(finished(function(tiny, picture, **given)))) for _ in range(2))

    assert first, "there is nothing in the result"
    for (place, value), (other_place, other) in zip(first, again, strict=True):
        assert place == other_place
        if isinstance(value, (np.ndarray, float, np.generic)):
            assert np.isfinite(value).all(), f"{place} is not finite"
            np.testing.assert_allclose(other, value, rtol=1e-5, atol=1e-7, err_msg=f"{place} differs the second time")
        else:
            assert value == other, f"{place} differs the second time"
        if isinstance(value, np.ndarray):
            assert not np.shares_memory(value, picture), f"{place} is the picture that was given"
    np.testing.assert_array_equal(picture, nets.picture(), err_msg="the picture was changed")
    for key, value in before.items():
        np.testing.assert_array_equal(given[key], value, err_msg=f"{key} was changed")
    np.testing.assert_array_equal(tiny.scores(tiny.batch(picture)), scores, err_msg="the net was changed")
    assert all(torch.equal(weights[key], tensor) for key, tensor in tiny.twin.constants.items()), "weights were changed"
    assert twin_ops() == table, "the table of ops was changed"


@pytest.fixture(autouse=True)
def decoders(tiny, cache):
    """Methods that draw through a decoder find one for `tiny`."""
    nets.decoder(tiny, cache / "decoders")


def twin_ops() -> dict:
    from engine.ops.table import OPS

    return OPS


@pytest.mark.parametrize(("module", "name"), methods(), ids=lambda part: part)
def test_everything_after_the_data_is_named_and_has_a_docstring(module, name):
    """Which keeps calls readable, and lets a parameter be added without breaking one."""
    function = getattr(importlib.import_module(f"engine.{module}"), name)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty:
            assert parameter.kind is parameter.KEYWORD_ONLY, f"{parameter.name} has a default and is not keyword-only"
    assert function.__doc__, "no docstring"


# The sweep itself ---------------------------------------------------------------------------------------------------


def test_the_methods_are_found():
    assert {
        ("explain.occlusion", "occlusion"),
        ("explain.occlusion", "occlusion_steps"),
        ("explain.saliency", "saliency"),
    } <= set(methods())
    assert ("explain.occlusion", "occlude") not in methods()


def test_a_new_file_is_found_without_being_registered(tmp_path):
    (tmp_path / "tomorrow.py").write_text(
        "import nothing_there\ndef new(net, image, *, a=1): ...\ndef _own(net, image): ..."
    )
    (tmp_path / "other.py").write_text("def old(image, net): ...\nclass C:\n    def inner(net, image): ...")
    assert methods(tmp_path) == [("tomorrow", "new")]


def test_a_parameter_that_cannot_be_filled_is_named(tiny):
    with pytest.raises(
        pytest.fail.Exception, match=r"has a parameter 'novelty' without a default .* GIVEN in test_engine"
    ):
        arguments(lambda net, image, novelty: 0, tiny)


def test_long_runs_are_cut_short_and_defaults_left_alone(tiny):
    assert arguments(lambda net, image, layer, *, steps=500, other=None: 0, tiny) == {"layer": "conv2", "steps": 3}


def test_a_target_that_can_only_be_a_class_is_one(tiny):
    def only(net, image, target: int): ...

    def any_(net, image, target: Target | int): ...

    assert arguments(only, tiny) == {"target": 1}
    assert arguments(any_, tiny)["target"].title == "class “church”"


@dataclasses.dataclass
class Loose:
    map: np.ndarray


OTHERS = {"object": object(), "dataclass": Loose(np.ones(2)), "words": np.array(["a"]), "inside": {"a": [object()]}}


@pytest.mark.parametrize("result", OTHERS.values(), ids=OTHERS)
def test_results_of_other_kinds_are_refused(result):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        list(numbers(result))


@pytest.mark.parametrize(
    "steps",
    [[], [1], [Step(1, 2, 0)], [Step(1, 2, 0), Step(1, 2, 0), Step(2, 2, 0)], [Step(1, 3, 0), Step(2, 2, 0)]],
    ids=["none", "no step", "cut short", "standing still", "another total"],
)
def test_runs_that_report_wrongly_are_refused(steps):
    with pytest.raises(AssertionError):
        finished(iter(steps))
