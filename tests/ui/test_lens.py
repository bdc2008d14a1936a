"""Does a page about a data set come to an index of it, at once or by a button, whole or in part?"""

from __future__ import annotations

import shutil
import sys
import time

import numpy as np
import pytest
import small_nets as small
from PIL import Image
from streamlit.testing.v1 import AppTest

from engine.data import dataset, sets
from engine.data.indexing import index_steps
from engine.net import Net
from engine.nets import available
from engine.step import last
from ui import lens
from ui.jobs import line

PATIENCE = 60  # seconds


def script() -> None:
    """A page that shows how many pictures its index holds, beside the page that the sidebar links to."""
    import streamlit as st

    from ui import lens, links, sidebar

    def page() -> None:
        made = sidebar.sidebar()
        found = lens.index(made)
        st.session_state["index"] = found
        st.markdown(f"done {found.done} of {found.total}")

    st.navigation([st.Page(page), st.Page(links.PAGES / "start" / "open.py")]).run()


def opened(**link: object) -> AppTest:
    at = AppTest.from_function(script, default_timeout=PATIENCE)
    at.query_params = {key: str(value) for key, value in link.items()}
    return run(at)


def run(at: AppTest) -> AppTest:
    """One more run, and another one after the pass that it began."""
    at.run()
    if any(str(button.key).startswith("cancel_") for button in at.button):
        end = time.monotonic() + PATIENCE
        while any(job.active for device in ("CPU", "indexes") for job in list(line.of(device).jobs.values())):
            assert time.monotonic() < end
            time.sleep(0.01)
        at.run()
    assert not at.exception, [each.value for each in at.exception]
    return at


def shown(at: AppTest) -> list[str]:
    return [each.value for each in at.main.markdown if each.value.startswith("done")]


@pytest.fixture(autouse=True)
def nothing_kept():
    """Each test has folders of its own; what the server keeps goes by their names and contents."""
    lens._found.clear()
    lens._kept.clear()


@pytest.fixture
def folder(tmp_path):
    """Two kinds of pictures in subfolders, and a broken one."""
    rng = np.random.default_rng(0)
    for name in ("bright", "dark"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(6):
            values = rng.integers(0, 100, (20, 24, 3)) + (150 if name == "bright" else 0)
            Image.fromarray(values.astype(np.uint8)).save(tmp_path / "set" / name / f"{k}.png")
    (tmp_path / "set" / "dark" / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    return tmp_path / "set"


def test_a_set_that_comes_with_the_app_is_indexed_at_once(cache):
    at = opened(net="digits")
    assert shown(at) == ["done 1797 of 1797"]
    found = at.session_state["index"]
    assert found.complete
    assert found.data_name == "digits"
    assert not at.button_group
    assert not any(str(button.key).startswith(("cancel_", "again_")) for button in at.button), "nothing runs"


def test_others_are_indexed_when_a_button_is_pressed(cache, folder):
    at = opened(net="digits", data="folder or file", path=folder)
    assert not shown(at)
    assert any("13 pictures" in each.value for each in at.main.markdown)
    at.get_by_key("index_start").click()
    at = run(at)
    assert shown(at) == ["done 13 of 13"]
    assert any("1 picture could not be read" in each.label for each in at.expander)
    assert any("12 pictures of set, indexed by digits." in each.value for each in at.caption)
    again = opened(net="digits", data="folder or file", path=folder)
    assert shown(again) == ["done 13 of 13"], "the next session finds it"


def net_and(given: object) -> tuple[Net, dataset.Dataset]:
    return Net(available.find("digits")), sets.find(given)


def begun(given: object, steps: int) -> None:
    """An index that was broken off after so many writes."""
    made = index_steps(*net_and(given), batch=4, every=0)
    for _, _step in zip(range(steps), made, strict=False):
        pass
    made.close()


def test_a_part_of_an_index_can_be_looked_at_and_made_whole(cache, folder):
    begun(folder, 2)
    at = opened(net="digits", data="folder or file", path=folder)
    assert shown(at) == ["done 8 of 13"]
    assert not at.session_state["index"].complete
    assert any("5 pictures" in each.value for each in at.main.markdown)
    assert any("5 are still to come" in each.value for each in at.caption)
    assert at.get_by_key("index_start").label == "Index the rest"
    at.get_by_key("index_start").click()
    assert shown(run(at)) == ["done 13 of 13"]


def test_what_comes_with_the_app_goes_on_by_itself(cache):
    begun("digits", 3)
    assert shown(opened(net="digits")) == ["done 1797 of 1797"]


def test_pictures_that_have_changed_are_said_and_can_be_indexed_again(cache, folder):
    last(index_steps(*net_and(folder)))
    (folder / "dark" / "broken.jpg").unlink()
    at = opened(net="digits", data="folder or file", path=folder)
    assert "13 pictures then, 12 now" in at.warning[0].value
    assert shown(at) == ["done 13 of 13"], "what there is can be looked at meanwhile"
    at.get_by_key("index_start").click()
    at = run(at)
    assert shown(at) == ["done 12 of 12"]
    assert not at.warning


def test_another_network_of_the_name_is_not_looked_at(cache, folder):
    (cache / "networks").mkdir(parents=True)
    model = small.tiny(about=small.ABOUT)
    (cache / "networks" / "mine.onnx").write_bytes(model.SerializeToString())
    last(index_steps(Net(cache / "networks" / "mine.onnx"), sets.find(folder)))
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    (cache / "networks" / "mine.onnx").write_bytes(model.SerializeToString())
    at = opened(net="mine", data="folder or file", path=folder)
    assert "weights have changed" in at.warning[0].value
    assert not shown(at)
    assert at.get_by_key("index_start").label == "Index again"


def test_an_index_that_was_removed_is_made_again(cache):
    at = opened(net="digits", data="faces")
    assert shown(at) == ["done 200 of 200"]
    shutil.rmtree(cache / "indexes")
    assert shown(run(at)) == ["done 200 of 200"]


def test_a_damaged_index_is_said(cache):
    found = last(index_steps(*net_and("faces")))
    for file in (found.folder / "pictures.lance" / "data").iterdir():
        file.write_bytes(b"nothing")
    at = opened(net="digits", data="faces")
    assert "damaged" in at.error[0].value
    assert not shown(at)


@pytest.mark.parametrize(
    ("given", "said"),
    [("", None), ("nowhere", "There are no pictures"), ("hf:someone/birds", "Hugging Face"), (".", "no picture")],
)
def test_pictures_that_are_not_there(cache, tmp_path, monkeypatch, given, said):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "empty").mkdir()
    at = opened(net="digits", data="folder or file", path=tmp_path / "empty" if given == "." else given)
    assert not shown(at)
    assert (said in at.error[0].value) if said else at.info


def test_nothing_but_broken_pictures(cache, tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"broken")
    last(index_steps(*net_and(tmp_path)))
    at = opened(net="digits", data="folder or file", path=tmp_path)
    assert "None of the pictures could be read" in at.error[0].value
    assert not shown(at)


def test_a_published_set_is_offered(cache):
    at = opened(net="digits", data="cifar10")
    assert not shown(at)
    assert any("60,000 pictures, 170 MB" in each.value for each in at.main.markdown)
    assert at.get_by_key("fetch_data")


def test_a_link_to_pictures_that_are_not_here(cache):
    at = opened(net="digits", data="birds")
    assert "birds" in at.warning[0].value
    assert shown(at) == ["done 1797 of 1797"]


def test_other_layers_are_another_pass(cache):
    at = opened(net="digits", data="faces")
    before = at.session_state["index"]
    at.get_by_key("indexed").set_value(["relu1", "conv2"])
    at = run(at)
    assert at.session_state["index"].layers == ("relu1", "conv2")
    at.get_by_key("indexed").set_value(["relu1"])
    at = run(at)
    assert set(at.session_state["index"].layers) > {"relu1"}, "one that has more will do"
    assert before.layers != ("relu1", "conv2")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.1, "1 seconds"), (89, "89 seconds"), (300, "5 minutes"), (9000, "2.5 h")]
)
def test_times_are_said(seconds, said):
    assert lens._said(seconds).startswith(said)
