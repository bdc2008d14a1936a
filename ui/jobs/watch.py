"""Who looks on? What a page shows of a run: how far it is, what it has made so far, and how it can be ended."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from engine.step import Step
from ui.jobs import line
from ui.jobs.line import Job, Line

TICK = 0.8  # seconds between two looks at a run: drawing takes time from it, and a slow browser must not fall behind


def show(device: str, job: Job, draw: Callable[[Step | None, bool], None]) -> None:
    """The job's progress with time left, a cancel button, and `draw(step, complete)` below, kept up to date.

    The bar keeps its place when the run ends, so that nothing jumps.
    """
    queue = line.of(device)
    was_active = job.active

    @st.fragment(run_every=TICK if was_active else None)
    def watch() -> None:
        with st.container(
            horizontal=True, vertical_alignment="center", height=48, border=False, key=f"job_{job.key[1]}"
        ):
            _bar(queue, job)
        if job.state == "failed":
            st.error(job.error, icon=":material/error:")
        draw(job.step, job.state == "done")
        if was_active and not job.active:
            st.rerun()  # the whole page, once: what follows the run may now be drawn

    watch()


def _bar(queue: Line, job: Job) -> None:
    step = job.step
    share = step.index / step.total if step and step.total else 0.0
    counted = "" if not step else f"{step.index:,} of {step.total:,}" if step.total < 10**6 else f"{share:.0%}"
    if job.state == "waiting":
        before = queue.position(job)
        text = f"Waiting: {before} before you" if before else "Starting"
    elif job.state == "running":
        left = job.seconds_left
        text = f"{counted}" + (f" · {left:.0f} s left" if left is not None and left >= 1 else "")
    else:
        text = {"done": "Done", "cancelled": "Cancelled", "failed": "Failed"}[job.state]
        text += f" · {counted} · {job.seconds:.1f} s" if step else ""
    st.progress(min(share, 1.0), text=text or "Starting")
    if job.active:
        if st.button(
            "Cancel", key=f"cancel_{job.key[1]}", icon=":material/stop_circle:", disabled=job.cancelled.is_set()
        ):
            queue.cancel(job)
        return
    if job.state == "cancelled" and job.resume and job.step:
        if st.button("Continue", key=f"continue_{job.key[1]}", icon=":material/play_arrow:"):
            queue.go_on(job)
            st.rerun()
    elif st.button("Run again", key=f"again_{job.key[1]}", icon=":material/replay:"):
        name, knobs = job.key[1:]
        queue.submit(job.session, name, knobs, job.steps, again=True, resume=job.resume, picture=job.picture)
        st.rerun()
