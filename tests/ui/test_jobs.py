"""The line of long runs, on its own: jobs are generators that wait for the test before each step."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from engine.step import Step
from ui.jobs import line as jobs
from ui.jobs.line import KEPT, Job, Line

PATIENCE = 10  # seconds until a test gives up on a worker


def until(holds: Callable[[], bool]) -> None:
    """Wait for the worker. The fixtures below let it go on only when told to, so this is short, and never a guess."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "The worker did not get there."
        time.sleep(0.001)


class Run:
    """A run of `total` steps, each of which begins when `go` is released; it remembers what happened to it."""

    def __init__(self, total: int = 3, fails: Exception | None = None, closing: Exception | None = None):
        self.total, self.fails, self.closing = total, fails, closing
        self.go = threading.Semaphore(0)
        self.begun: list[int] = []  # the steps whose computation began
        self.closed = 0

    def __call__(self) -> Iterator[Step]:
        try:
            for index in range(1, self.total + 1):
                self.begun.append(index)
                assert self.go.acquire(timeout=PATIENCE)
                if self.fails and index == 2:
                    raise self.fails
                yield Step(index, self.total, f"result {index}")
        finally:
            self.closed += 1
            if self.closing:
                raise self.closing

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.go.release()


def free(total: int = 1) -> Iterator[Step]:
    """A run that waits for nobody."""
    for index in range(1, total + 1):
        yield Step(index, total, index)


@pytest.fixture
def gone() -> set[str]:
    """The sessions that have left."""
    return set()


@pytest.fixture
def line(gone) -> Line:
    return Line(lambda session: session not in gone)


def ended(job: Job) -> None:
    until(lambda: not job.active)


def test_run_to_the_end(line):
    run = Run(3)
    job = line.submit("ann", "occlusion", (1,), run)
    until(lambda: job.state == "running")
    assert job.step is None
    assert job.seconds_left is None, "there is no pace yet"
    run.step(2)
    until(lambda: len(run.begun) == 3)
    assert job.step == Step(2, 3, "result 2")
    assert job.active
    assert job.seconds_left == pytest.approx(job.seconds / 2, rel=0.5, abs=0.01)
    run.step()
    ended(job)
    assert (job.state, job.step, job.error, run.closed) == ("done", Step(3, 3, "result 3"), "", 1)
    seconds = job.seconds
    time.sleep(0.01)
    assert job.seconds == seconds > 0, "the clock has stopped"
    assert job.seconds_left is None


def test_one_after_the_other(line):
    first, second, third = Run(1), Run(1), Run(1)
    a = line.submit("ann", "occlusion", (), first)
    until(lambda: a.state == "running")
    b = line.submit("bob", "occlusion", (), second)
    c = line.submit("cat", "occlusion", (), third)
    assert [line.position(job) for job in (b, c)] == [1, 2]
    assert (b.state, c.state) == ("waiting", "waiting")
    first.step()
    until(lambda: second.begun)
    assert (a.state, b.state, c.state, third.begun) == ("done", "running", "waiting", [])
    assert line.position(c) == 1
    second.step()
    until(lambda: third.begun)
    third.step()
    ended(c)
    assert (b.state, c.state) == ("done", "done")


def test_cancel_takes_effect_within_a_step_and_keeps_what_is_there(line):
    run = Run(5)
    job = line.submit("ann", "occlusion", (), run)
    run.step(2)
    until(lambda: len(run.begun) == 3)
    line.cancel(job)
    assert job.state == "running", "the step that is being computed cannot be broken off"
    run.step()
    ended(job)
    assert (job.state, job.step, run.begun, run.closed) == ("cancelled", Step(3, 5, "result 3"), [1, 2, 3], 1)


def test_a_cancelled_run_is_closed_at_once(line):
    """Not when the garbage collector finds it: a download's lock hangs on it. Here it cannot be found."""
    run = Run(5)
    steps = run()
    job = line.submit("ann", "fetch", (), lambda: steps)
    until(lambda: run.begun)
    line.cancel(job)
    run.step()
    ended(job)
    assert (run.closed, next(steps, None)) == (1, None)


def test_cancel_during_the_last_step_is_too_late(line):
    run = Run(2)
    job = line.submit("ann", "occlusion", (), run)
    run.step()
    until(lambda: len(run.begun) == 2)
    line.cancel(job)
    run.step()
    ended(job)
    assert (job.state, job.step.index) == ("done", 2)


def test_cancel_a_waiting_job(line):
    first, second, third = Run(1), Run(1), Run(1)
    a = line.submit("ann", "occlusion", (), first)
    until(lambda: a.state == "running")
    b = line.submit("bob", "occlusion", (), second)
    c = line.submit("cat", "occlusion", (), third)
    line.cancel(b)
    assert (b.state, b.step, line.position(c)) == ("cancelled", None, 1), "at once, without the worker"
    first.step()
    third.step()
    ended(c)
    assert (c.state, second.begun) == ("done", [])


def test_cancel_an_ended_job_changes_nothing(line):
    job = line.submit("ann", "occlusion", (), free)
    ended(job)
    line.cancel(job)
    assert job.state == "done"
    assert line.submit("ann", "occlusion", (), free) is job


def test_same_knobs_give_the_same_job(line):
    run = Run(1)
    job = line.submit("ann", "occlusion", (1, "grey"), run)
    until(lambda: job.state == "running")
    assert line.submit("ann", "occlusion", (1, "grey"), run) is job
    run.step()
    ended(job)
    assert line.submit("ann", "occlusion", (1, "grey"), run) is job
    assert run.begun == [1]


def test_other_knobs_supersede(line):
    old, waiting, new = Run(3), Run(3), Run(1)
    a = line.submit("ann", "occlusion", (1,), old)
    until(lambda: a.state == "running")
    b = line.submit("ann", "occlusion", (2,), waiting)
    c = line.submit("ann", "occlusion", (3,), new)
    assert b.state == "cancelled"
    assert line.position(c) == 1, "the old run's step is still being computed"
    old.step()
    ended(a)
    assert (a.state, old.begun, waiting.begun) == ("cancelled", [1], [])
    new.step()
    ended(c)
    assert c.state == "done"


@pytest.mark.parametrize(("session", "name"), [("bob", "occlusion"), ("ann", "deepdream")])
def test_others_are_not_superseded(line, session, name):
    run = Run(1)
    job = line.submit("ann", "occlusion", (1,), run)
    until(lambda: job.state == "running")
    other = line.submit(session, name, (2,), free)
    run.step()
    ended(other)
    assert (job.state, other.state) == ("done", "done")


def test_back_to_superseded_knobs_begins_anew(line):
    """Nobody cancelled that run: who comes back to its knobs finds no half result that says so."""
    old, again = Run(3), Run(1)
    a = line.submit("ann", "occlusion", (1,), old)
    until(lambda: a.state == "running")
    line.submit("ann", "occlusion", (2,), Run(1))
    b = line.submit("ann", "occlusion", (1,), again)
    assert b is not a
    old.step()
    again.step()
    ended(b)
    assert (a.state, b.state, b.step.index) == ("cancelled", "done", 1)


def test_back_to_superseded_knobs_after_the_run_ended(line):
    old = Run(3)
    a = line.submit("ann", "occlusion", (1,), old)
    until(lambda: a.state == "running")
    b = line.submit("ann", "occlusion", (2,), free)
    old.step()
    ended(b)
    c = line.submit("ann", "occlusion", (1,), free)
    ended(c)
    assert (a.state, c.state) == ("cancelled", "done")


def test_a_cancelled_run_is_not_begun_again_by_a_rerun_of_the_page(line):
    run = Run(3)
    job = line.submit("ann", "occlusion", (1,), run)
    until(lambda: job.state == "running")
    line.cancel(job)
    assert line.submit("ann", "occlusion", (1,), run) is job, "while its last step is being computed"
    run.step()
    ended(job)
    assert line.submit("ann", "occlusion", (1,), run) is job, "and after it"
    assert (job.state, run.begun) == ("cancelled", [1])


def test_again(line):
    run = Run(2)
    job = line.submit("ann", "occlusion", (1,), run)
    until(lambda: job.state == "running")
    assert line.submit("ann", "occlusion", (1,), run, again=True) is job, "not while it runs"
    line.cancel(job)
    run.step()
    ended(job)
    more = line.submit("ann", "occlusion", (1,), run, again=True)
    assert more is not job
    run.step(2)
    ended(more)
    assert (job.state, more.state, more.step.index) == ("cancelled", "done", 2)
    assert line.submit("ann", "occlusion", (1,), run) is more


def test_a_session_that_is_gone_ends_its_job(line, gone):
    run, waiting, other = Run(5), Run(1), Run(1)
    job = line.submit("ann", "occlusion", (), run)
    until(lambda: job.state == "running")
    second = line.submit("ann", "deepdream", (), waiting)
    third = line.submit("bob", "occlusion", (), other)
    gone.add("ann")
    run.step()
    other.step()
    ended(third)
    assert (job.state, run.begun, run.closed) == ("cancelled", [1], 1)
    assert (second.state, waiting.begun) == ("cancelled", [])
    assert third.state == "done"


@pytest.mark.parametrize("error", [ValueError("The patch is too large."), LookupError("The patch is too large.")])
def test_what_the_engine_says_reaches_people(line, error, caplog):
    run = Run(3, fails=error)
    job = line.submit("ann", "occlusion", (), run)
    run.step(2)
    ended(job)
    assert (job.state, job.error, job.step.index) == ("failed", "The patch is too large.", 1)
    assert (run.closed, caplog.records) == (1, [])


def test_a_defect_is_logged_and_said_in_a_sentence(line, caplog):
    run = Run(3, fails=ZeroDivisionError("division by zero"))
    with caplog.at_level(logging.ERROR):
        job = line.submit("ann", "occlusion", (), run)
        run.step(2)
        ended(job)
    assert (job.state, run.closed) == ("failed", 1)
    assert "division" not in job.error
    assert job.error.endswith(".")
    (record,) = caplog.records
    assert "occlusion" in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError


def no_generator() -> Iterator[Step]:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    "steps",
    [Run(3, fails=ValueError("no")), Run(3, fails=MemoryError()), Run(2, closing=OSError("busy")), no_generator],
    ids=["refused", "defect", "fails when closed", "fails before its first step"],
)
def test_the_worker_survives(line, steps, caplog):
    job = line.submit("ann", "occlusion", (), steps)
    if isinstance(steps, Run):
        steps.step(2)
    ended(job)
    after = line.submit("bob", "occlusion", (), free)
    ended(after)
    assert (job.state, after.state) == ("failed", "done")


def test_a_run_that_fails_when_closed_after_a_cancel(line, caplog):
    run = Run(3, closing=OSError("busy"))
    job = line.submit("ann", "fetch", (), run)
    until(lambda: job.state == "running")
    line.cancel(job)
    run.step()
    ended(job)
    after = line.submit("bob", "fetch", (), free)
    ended(after)
    assert after.state == "done"


def test_kept_results_are_bounded_and_the_oldest_goes(line):
    made = [line.submit("ann", f"method {k}", (), free) for k in range(KEPT)]
    ended(made[-1])
    assert line.submit("ann", "method 0", (), free) is made[0], "all are kept, and this one is the latest now"
    for k in range(KEPT, KEPT + 3):
        ended(line.submit("ann", f"method {k}", (), free))
    assert len(line.jobs) == KEPT
    kept = {job.key[1] for job in line.jobs.values()}
    assert {"method 0", f"method {KEPT + 2}"} <= kept
    assert not {"method 1", "method 2", "method 3"} & kept


def test_what_waits_is_never_dropped(line):
    gate = Run(1)
    first = line.submit("ann", "first", (), gate)
    until(lambda: first.state == "running")
    waiting = [line.submit("ann", f"method {k}", (), free) for k in range(KEPT + 5)]
    assert all(line.submit("ann", f"method {k}", (), free) is job for k, job in enumerate(waiting))
    gate.step()
    ended(waiting[-1])
    assert {job.state for job in waiting} == {"done"}


def test_two_hundred_jobs_take_one_thread(line):
    before = threading.active_count()
    order = []

    def steps(k: int) -> Callable[[], Iterator[Step]]:
        def generate() -> Iterator[Step]:
            order.append((k, threading.current_thread()))
            yield from free(2)

        return generate

    for k in range(200):
        job = line.submit(f"session {k % 7}", f"method {k}", (), steps(k))
    ended(job)
    assert threading.active_count() == before
    assert [k for k, _ in order] == list(range(200))
    assert len({thread for _, thread in order}) == 1
    assert not line.waiting
    line.submit("ann", "one more", (), free)
    assert len(line.jobs) <= KEPT + 1


def test_without_streamlit_there_is_a_line_per_device():
    job = jobs.run("a device", "test", (1,), free)
    assert jobs.run("a device", "test", (1,), free) is job
    assert jobs.of("a device") is jobs.of("a device")
    assert jobs.of("a device") is not jobs.of("another device")
    ended(job)
    assert job.state == "done"


# Runs that make pictures ----------------------------------------------------------------------------------------------


def test_a_cancelled_run_goes_on_where_it_stopped_with_its_film(line):
    run = Run(4)
    seen = []

    def rest(result):
        seen.append(result)
        for index in range(3, 5):
            yield Step(index, 4, f"result {index}")

    picture = lambda result: np.full((4, 6, 3), float(result.split()[1]) / 4)  # noqa: E731
    job = line.submit("me", "paint", (), run, resume=rest, picture=picture)
    run.step(2)
    until(lambda: job.step is not None and job.step.index == 2)
    line.cancel(job)
    run.step()
    until(lambda: not job.active)
    assert job.state == "cancelled"
    reached = job.step.index
    line.go_on(job)
    again = line.submit("me", "paint", (), run, resume=rest, picture=picture)
    assert again is not job
    until(lambda: not again.active)
    assert seen == [f"result {reached}"]
    assert again.state == "done"
    assert again.step.result == "result 4"
    assert again.first == reached
    assert again.film is job.film
    assert (again.film.frames()[-1] == 255).all(), "the film's last frame is the picture"
    assert again.film.count == reached + 2


def test_of_runs_with_films_only_the_last_few_are_kept(line):
    picture = lambda result: np.zeros((2, 2, 3))  # noqa: E731
    for number in range(jobs.KEPT_FILMS + 4):
        job = line.submit("me", f"run {number}", (), free, picture=picture)
        until(lambda job=job: not job.active)
    line.submit("me", "another", (), free)
    assert sum(bool(other.picture) for other in line.jobs.values()) == jobs.KEPT_FILMS
    assert job.key in line.jobs
