"""Does a page about a data set come to an index of it, at once or by a button, whole or in part?"""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from ui import jobs

PATIENCE = 60  # seconds


def script() -> None:
    """A page that shows how many pictures its index holds."""
    import streamlit as st

    from ui import frame, lens

    made = frame.sidebar()
    found = lens.index(made)
    st.session_state["index"] = found
    st.markdown(f"done {found.done} of {found.total}")


def opened(**link: object) -> AppTest:
    at = AppTest.from_function(script, default_timeout=PATIENCE)
    at.query_params = {key: str(value) for key, value in link.items()}
    return run(at)


def run(at: AppTest) -> AppTest:
    """One more run, and another one after the pass that it began."""
    at.run()
    if any(str(button.key).startswith("cancel_") for button in at.button):
        end = time.monotonic() + PATIENCE
        while any(job.active for line in ("CPU", "indexes") for job in list(jobs.line(line).jobs.values())):
            assert time.monotonic() < end
            time.sleep(0.01)
        at.run()
    assert not at.exception, [each.value for each in at.exception]
    return at


def shown(at: AppTest) -> list[str]:
    return [each.value for each in at.main.markdown if each.value.startswith("done")]


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
    assert any("1 pictures could not be read" in each.label for each in at.expander)
