"""What is compared with other libraries fails where they are missing: a comparison that is left out says nothing."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

PEERS = ("captum", "pytorch_grad_cam", "torchattacks", "foolbox")


def pytest_collection(session: pytest.Session) -> None:
    if missing := [name for name in PEERS if find_spec(name) is None]:
        raise pytest.UsageError(
            f"tests/references compares with {', '.join(missing)}, which is not here; .ci/run shows how the peers are "
            "installed in an environment on top."
        )
