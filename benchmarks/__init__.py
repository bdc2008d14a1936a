"""How fast is the engine beside its peers, and beside what it is built on? `python -m benchmarks --help`."""

import engine  # noqa: F401 (before torch, which reads once how long its threads are to spin, for the peers, too)
