"""What if the gradient passed the network's gates in another way?

A gate is an op that lets a part of each number through: ReLU and its kin. The gradient passes it by the gate's own
derivative. Two older methods pass it otherwise; both are tables of functions for the Twin, which is not changed:

- guided: by the derivative, and only where the gradient is positive (Springenberg et al. 2014, arXiv:1412.6806).
- deconvnet: only where the gradient is positive, whatever went through forward (Zeiler & Fergus 2013,
  arXiv:1311.2901, section 2.1; with max pooling's switches, as there).

Both papers speak of ReLU. Here the same rules hold for Clip (ReLU6), LeakyRelu, PRelu, Elu, Celu, Selu, HardSwish, Gelu
and for SiLU, written as x · Sigmoid(x): the gate's own derivative takes the place of ReLU's 0 or 1. A Sigmoid that
gates something else, as in squeeze-and-excitation, is arithmetic like any other product and keeps its derivative.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace

from engine.model.graph import Graph

RULES = ("plain", "guided", "deconvnet")
GATES = frozenset(["Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "HardSwish", "Gelu"])
MONOTONE = frozenset(["Relu", "LeakyRelu"])  # not Clip: one without bounds hands on what others hold, too
OTHER = frozenset(["Erf", "Tanh", "Softplus", "Mish", "Swish", "Sigmoid", "HardSigmoid"])


class NoGate(ValueError):
    """The rule has nothing to apply to; the message says which ops the graph has instead."""


def table(graph: Graph, rule: str) -> dict[str, Callable] | None:
    """The Twin's `ops` for one of RULES; None for "plain".

    Raises NoGate where the graph has no gate that the rule could change, ValueError for an unknown rule.
    """
    if rule not in RULES:
        raise ValueError(f"The rule is one of {', '.join(RULES)}, not {rule!r}.")
    if rule == "plain":
        return None
    from engine.ops.table import OPS

    ops = {node.op for node in graph.nodes if node.op in GATES and node.outputs[0] in graph.from_input}
    products = silus(graph)
    if not ops and not products:
        there = sorted({node.op for node in graph.nodes} & OTHER)
        has = f"its nonlinear ops are {', '.join(there)}" if there else "it has no nonlinear op"
        raise NoGate(f"The rule {rule!r} changes how gradients pass ReLU and its kin, and this net has none: {has}.")
    passed = guided if rule == "guided" else deconvnet
    gates = {op: passed(OPS[op]) for op in ops if op in OPS}
    if rule == "guided":
        gates |= {op: guided_monotone(OPS[op]) for op in ops & MONOTONE}
    return gates | {name: passed(OPS["Mul"], place) for name, place in products.items()}


def silus(graph: Graph) -> dict[str, int]:
    """The tensors that are x · Sigmoid(x), and which of the product's two inputs is x."""
    sigmoid = {node.outputs[0]: node.inputs[0] for node in graph.nodes if node.op == "Sigmoid"}
    return {
        node.outputs[0]: place
        for node in graph.nodes
        for place in (0, 1)
        if node.op == "Mul" and sigmoid.get(node.inputs[1 - place]) == node.inputs[place]
    }


def guided(function: Callable, place: int = 0) -> Callable:
    """The same gate; backwards its own derivative, of the positive part of what comes in."""
    return lambda *inputs, **attributes: _rules().after.apply(function(*inputs, **attributes))


def guided_monotone(function: Callable) -> Callable:
    """The same where the derivative is nowhere negative: then its order does not matter, and last is faster.

    What comes out of the gate's own backward pass is a tensor that nobody else holds, so that no other has to be made.
    """
    return lambda x, *rest, **attributes: function(_rules().before.apply(x), *rest, **attributes)


def deconvnet(function: Callable, place: int = 0) -> Callable:
    """The same gate; backwards only the positive part of what comes in, as if the gate had let everything through.

    place: which of the gate's inputs is the one that it gates.
    """
    return lambda *inputs, **attributes: _rules().straight.apply(
        inputs[place], function(*inputs, **attributes).detach()
    )


@functools.cache
def _rules() -> SimpleNamespace:
    """The backward passes as torch's functions; made once, and not before torch is needed."""
    import torch

    class Positive(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return y.view_as(y)

        @staticmethod
        def backward(ctx, gradient):
            return gradient.clamp(min=0)

    class PositiveInPlace(Positive):
        @staticmethod
        def backward(ctx, gradient):
            return gradient.clamp_(min=0)

    class Straight(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            return y

        @staticmethod
        def backward(ctx, gradient):
            return gradient.clamp(min=0), None

    return SimpleNamespace(after=Positive, before=PositiveInPlace, straight=Straight)
