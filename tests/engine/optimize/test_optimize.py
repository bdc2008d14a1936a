"""The one loop: does it climb, does it step as it says, and is a run that was broken off the run that was not?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets
import torch

from engine import target
from engine.optimize import ascend as loop
from engine.optimize import keeps, moves
from engine.optimize.ascend import ascend
from engine.step import last

LINEAR = np.random.default_rng(5).normal(size=(4, 3, *nets.SIZE)).astype(np.float32)
MOVES = {
    "gradient": lambda: moves.by_gradient(0.01),
    "direction": lambda: moves.by_direction(0.01),
    "sign": lambda: moves.by_sign(0.01),
    "adam": lambda: moves.by_adam(0.01),
    "lbfgs": lambda: moves.by_lbfgs(0.1, 5),
}


def start(picture: np.ndarray) -> torch.Tensor:
    return loop.tensor(picture)


@pytest.mark.parametrize("name", MOVES)
def test_every_move_climbs(tiny, picture, name):
    asked = target.class_score(tiny, 2)
    climb = last(ascend(asked, start(picture), net=tiny, steps=12, move=MOVES[name](), keep=keeps.in_range))
    assert climb.scores.shape == (12, 1)
    assert climb.scores[-1] > climb.scores[0]
    assert climb.pixels.shape == (1, *picture.shape)
    assert climb.pixels.min() >= 0
    assert climb.pixels.max() <= 1
    assert target.measure(tiny, tiny.batch(climb.picture), asked)[0] > climb.scores[0]


@pytest.mark.parametrize("name", MOVES)
def test_taken_up_again_a_run_ends_as_if_it_had_never_stopped(tiny, picture, name):
    from engine.optimize.view import robust

    how = {"net": tiny, "steps": 7, "move": MOVES[name](), "view": robust(jitter=2, seed=3)}
    asked = target.class_score(tiny, 1)
    whole = last(ascend(asked, start(picture), **how))
    for step in ascend(asked, start(picture), **how):
        if step.index == 3:
            break
    rest = list(ascend(asked, torch.zeros(1), **how, resume=step.result))
    assert [each.index for each in rest] == [4, 5, 6, 7]
    np.testing.assert_array_equal(rest[-1].result.pixels, whole.pixels)
    np.testing.assert_array_equal(rest[-1].result.scores, whole.scores)


def test_it_computes_one_step_per_report_and_none_ahead(tiny, picture):
    asked, seen = target.class_score(tiny, 0), []

    def view(pixels, index):
        seen.append(index)
        return pixels

    steps = ascend(asked, start(picture), net=tiny, steps=9, move=MOVES["sign"](), view=view)
    next(steps), next(steps)
    steps.close()
    assert seen == [0, 1]


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_steps_are_those_of_torchs_own_optimizers(name):
    """On a bowl with a long axis. Torch descends, so the loss is turned round."""
    stretch = torch.linspace(0.5, 3, 6).view(1, 6)
    height = lambda x: -(stretch * (x - 0.3) ** 2).sum()  # noqa: E731
    theirs = torch.ones(1, 6, requires_grad=True)
    made = {
        "adam": lambda: torch.optim.Adam([theirs], 0.05),
        "lbfgs": lambda: torch.optim.LBFGS([theirs], 1.0, max_iter=1, history_size=4),
    }[name]()
    move = {"adam": moves.by_adam(0.05), "lbfgs": moves.by_lbfgs(1.0, 4)}[name]
    x, memory = torch.ones(1, 6), None

    def closure():
        made.zero_grad()
        loss = -height(theirs)
        loss.backward()
        return loss

    for _ in range(8):
        made.step(closure)
        y = x.requires_grad_()
        (gradient,) = torch.autograd.grad(height(y), y)
        x, memory = move(y.detach(), gradient, memory)
        torch.testing.assert_close(x, theirs.detach(), rtol=1e-4, atol=1e-5)


def test_a_direction_is_as_long_for_every_picture_and_scale():
    gradient = torch.randn(2, 3, 4, 5) * torch.tensor([1e-6, 1e3]).view(2, 1, 1, 1)
    moved, _ = moves.by_direction(0.02)(torch.zeros(2, 3, 4, 5), gradient, None)
    torch.testing.assert_close(moved.abs().mean((1, 2, 3)), torch.tensor([0.02, 0.02]))


def test_the_penalty_is_climbed_down_and_not_reported(tiny, picture):
    asked = target.class_score(tiny, 2)
    rough = lambda pixels: 1e4 * keeps.total_variation(pixels)  # noqa: E731
    steps = ascend(asked, start(picture), net=tiny, steps=6, move=moves.by_direction(0.005), penalty=rough)
    climb = last(steps)
    assert climb.scores[0, 0] == pytest.approx(target.measure(tiny, tiny.batch(picture), asked)[0], rel=1e-4)
    before, after = (float(keeps.total_variation(start(each))) for each in (picture, climb.picture))
    assert after < before


def test_a_score_that_is_no_number_ends_the_run_in_a_sentence(tiny, picture):
    far = moves.by_gradient(1e38)
    with pytest.raises(ValueError, match=r"steps are too large.*\.$"):
        last(ascend(target.class_score(tiny, 2), start(picture), net=tiny, steps=9, move=far))


# What keeps and costs -------------------------------------------------------------------------------------------------


def test_pixels_of_small_norm_and_small_contribution_go_to_the_mean():
    towards = torch.tensor([0.5]).view(1, 1, 1)
    x = torch.tensor([[0.5, 0.6], [0.9, 0.0]]).view(1, 1, 2, 2)
    ones = torch.ones_like(x)
    norm = keeps.without_small(0.5, 0, towards)(x, ones, 0)
    torch.testing.assert_close(norm.flatten(), torch.tensor([0.5, 0.5, 0.9, 0.0]))
    few = torch.tensor([[1.0, 100.0], [0.0, 0.0]]).view(1, 1, 2, 2)
    contribution = keeps.without_small(0, 0.7, towards)(x, few, 0)
    torch.testing.assert_close(contribution.flatten(), torch.tensor([0.5, 0.6, 0.5, 0.5]))


def test_what_two_channels_of_a_pixel_contribute_may_cancel_out():
    """Contributions 3 - 3, 1 + 0, 0 + 2 and 1 + 1: the first is the least."""
    x = torch.tensor([[3.0, 1.0, 0.0, 1.0], [-3.0, 0.0, 2.0, 1.0]]).view(1, 2, 2, 2)
    found = keeps.without_small(0, 0.2, torch.zeros(2, 1, 1))(x, torch.ones_like(x), 0)
    torch.testing.assert_close(found.view(2, 4), torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 2.0, 1.0]]))


def test_a_blur_keeps_a_flat_picture_and_the_mean_of_a_dot():
    flat = torch.full((1, 3, 9, 11), 0.3)
    torch.testing.assert_close(keeps.gaussian(flat, 1.5), flat)
    dot = torch.zeros(1, 1, 21, 25)
    dot[0, 0, 10, 12] = 1
    spread = keeps.gaussian(dot, 2.0)
    assert float(spread.sum()) == pytest.approx(1, rel=1e-4)
    rows = torch.arange(21.0) - 10
    assert float((spread[0, 0].sum(1) * rows**2).sum()) == pytest.approx(4, rel=0.03), (
        "the variance is the width's square"
    )
    assert keeps.blurred(2.0, 3)(dot, dot, 0) is dot
    assert not torch.equal(keeps.blurred(2.0, 3)(dot, dot, 2), dot)


def test_total_variation_and_the_alpha_norm_by_hand():
    x = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]).view(1, 1, 3, 3)
    # (right, down) of the four places that have both: (1, 0), (0, -1), (0, 0), (1, 0)
    assert float(keeps.total_variation(x)) == pytest.approx(3 / 4)
    assert float(keeps.total_variation(2 * x, power=1)) == pytest.approx(2 * 3 / 4, rel=1e-4)
    assert float(keeps.alpha_norm(x, torch.tensor(0.5), 2)) == pytest.approx(0.25)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_a_flat_picture_has_a_gradient_that_is_a_number(power):
    x = torch.full((1, 3, 4, 5), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(keeps.total_variation(x, power).sum(), x)
    assert torch.isfinite(gradient).all()
