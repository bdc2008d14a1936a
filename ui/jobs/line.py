"""Who computes, and in which order? Long runs, one at a time per device, for all users of the app.

A method of the engine is a generator of Step; a Job is one such run. One worker thread per device takes the jobs in
turn, so that no rerun, page switch or closed tab can kill a run half-way or pile up threads. Between two steps the
worker looks whether the run is still wanted: that is the whole of cancelling.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from engine.nets.download import FetchFailed
from engine.pictures.film import Film
from engine.step import Step

log = logging.getLogger(__name__)

KEPT_FILMS = 16  # of these, runs that made pictures: each holds a film, and what it takes to go on
KEPT = 64  # finished jobs whose results wait for their people to come back
# What the engine raises for people to read; anything else is a defect of ours.
REFUSED = (ValueError, LookupError, FetchFailed)


@dataclass(eq=False)
class Job:
    """One run. Written by the worker alone, but for `cancelled`; read by whoever watches."""

    key: tuple
    session: str
    steps: Callable[[], Iterator[Step]]
    resume: Callable[[Any], Iterator[Step]] | None = None  # from a result on, to what `steps` would have come to
    picture: Callable[[Any], np.ndarray] | None = None  # of a result, for the film
    film: Film = field(default_factory=Film)
    state: str = "waiting"  # waiting, running, done, cancelled, failed
    step: Step | None = None
    first: int = 0  # steps that an earlier stretch of the same run had done
    error: str = ""
    began: float = 0.0
    ended: float = 0.0
    cancelled: threading.Event = field(default_factory=threading.Event)
    continues: Callable[[], Iterator[Step]] | None = None  # what is run instead of `steps`, after a break

    @property
    def active(self) -> bool:
        return self.state in ("waiting", "running")

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.began if self.began else 0.0

    @property
    def seconds_left(self) -> float | None:
        """By the pace so far; None before there is one."""
        if self.state != "running" or not self.step or not self.step.index:
            return None
        return self.seconds / max(self.step.index - self.first, 1) * (self.step.total - self.step.index)


class Line:
    """The jobs of one device: those that wait, in order, the one that runs, and the ended ones, bounded."""

    def __init__(self, wanted: Callable[[str], bool]):
        self.wanted = wanted  # whether a session is still there
        self.waiting: deque[Job] = deque()
        self.running: Job | None = None
        self.jobs: OrderedDict[tuple, Job] = OrderedDict()
        self.change = threading.Condition(threading.RLock())
        threading.Thread(target=self._work, name="convoscope-jobs", daemon=True).start()

    def submit(
        self,
        session: str,
        name: str,
        knobs: tuple,
        steps: Callable[[], Iterator[Step]],
        again: bool = False,
        resume: Callable[[Any], Iterator[Step]] | None = None,
        picture: Callable[[Any], np.ndarray] | None = None,
    ) -> Job:
        """The session's job of this name and these knobs: the one that is there, or a new one.

        resume, picture: see Job.
        What the session still has running under the same name with other knobs is cancelled and forgotten: nobody
        waits for it, and who comes back to those knobs wants the whole.
        """
        key = (session, name, knobs)
        with self.change:
            for other in list(self.jobs.values()):
                if other.key[:2] == key[:2] and other.key != key and other.active:
                    self.cancel(other)
                    del self.jobs[other.key]
            job = self.jobs.get(key)
            if job is None or (again and not job.active):
                job = self._wait(Job(key, session, steps, resume, picture))
            self.jobs.move_to_end(key)
            for old in [k for k, other in self.jobs.items() if not other.active][: max(0, len(self.jobs) - KEPT)]:
                del self.jobs[old]
            making = [k for k, other in self.jobs.items() if not other.active and other.picture]
            for old in making[: max(0, len(making) - KEPT_FILMS)]:
                del self.jobs[old]
        return job

    def _wait(self, job: Job) -> Job:
        self.jobs[job.key] = job
        self.waiting.append(job)
        self.change.notify()
        return job

    def go_on(self, job: Job) -> None:
        """Take a cancelled run up where it stopped, with the film that there is."""
        with self.change:
            if not job.active and job.resume and job.step:
                result, resume = job.step.result, job.resume
                more = {"film": job.film, "step": job.step, "first": job.step.index}
                self._wait(replace(job, state="waiting", began=0.0, ended=0.0, cancelled=threading.Event(), **more))
                self.jobs[job.key].continues = lambda: resume(result)

    def cancel(self, job: Job) -> None:
        """End a waiting job now, a running one at its next step; what it has made so far stays."""
        with self.change:
            job.cancelled.set()
            if job in self.waiting:
                self.waiting.remove(job)
                job.state = "cancelled"

    def position(self, job: Job) -> int:
        """How many jobs are before this one."""
        with self.change:
            before = list(self.waiting)
            running = self.running not in (None, job)
        return (before.index(job) if job in before else 0) + running

    def _work(self) -> None:
        while True:
            with self.change:
                self.change.wait_for(lambda: self.waiting)
                job = self.waiting.popleft()
                job.began, job.state, self.running = time.monotonic(), "running", job
            self._run(job)
            self.running = None

    def _run(self, job: Job) -> None:
        state = "done"
        try:
            if job.cancelled.is_set() or not self.wanted(job.session):
                state = "cancelled"
            else:
                with closing((job.continues or job.steps)()) as steps:
                    for job.step in steps:
                        if job.picture:
                            job.film.add(job.picture(job.step.result))
                        if job.cancelled.is_set() or not self.wanted(job.session):
                            state = "done" if job.step.index >= job.step.total else "cancelled"
                            break
        except REFUSED as error:
            state, job.error = "failed", str(error)
        except Exception:
            log.exception("the run %s failed", job.key[1])
            state, job.error = (
                "failed",
                "This run failed on an error of the app's own; the log of the app has the details.",
            )
        job.ended, job.state = time.monotonic(), state


def _session_is_there(session: str) -> bool:
    return not st.runtime.exists() or st.runtime.get_instance().is_active_session(session)


@st.cache_resource(show_spinner=False)
def of(device: str) -> Line:
    """The one line of a device ("CPU", "CUDA") in this server."""
    return Line(_session_is_there)


def run(
    device: str,
    name: str,
    knobs: tuple,
    steps: Callable[[], Iterator[Step]],
    resume: Callable[[Any], Iterator[Step]] | None = None,
    picture: Callable[[Any], np.ndarray] | None = None,
) -> Job:
    """This session's job; call it on each rerun: the same knobs give the same job. resume, picture: see Job."""
    context = get_script_run_ctx()
    return of(device).submit(context.session_id if context else "", name, knobs, steps, resume=resume, picture=picture)
