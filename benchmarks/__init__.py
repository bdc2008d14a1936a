"""How fast is the engine beside its peers, and beside what it is built on? `python -m benchmarks --help`."""
