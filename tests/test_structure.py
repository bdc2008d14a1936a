"""Does each library stay where it belongs, and does each module of the engine say what it is for?"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from engine.nets.folder import PROJECT

IGNORED = {".git", ".venv", ".ruff_cache", ".pytest_cache", "__pycache__", "result", "shots", "node_modules"}


def files(*suffixes: str) -> list[Path]:
    """The project's own files with these suffixes."""
    found = (p for p in PROJECT.rglob("*") if p.is_file() and p.suffix in suffixes)
    return sorted(p for p in found if not IGNORED.intersection(p.relative_to(PROJECT).parts))


def name(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def imports(source: str) -> set[str]:
    """The first part of every module that the source imports, anywhere in it and in any of the ways to do so."""
    found = set()
    for part in ast.walk(ast.parse(source)):
        if isinstance(part, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in part.names}
        elif isinstance(part, ast.ImportFrom) and part.level == 0:
            found.add(part.module.partition(".")[0])
        elif isinstance(part, ast.Call) and getattr(part.func, "id", getattr(part.func, "attr", "")) in (
            "import_module",
            "__import__",
            "importorskip",
        ):
            found |= {str(a.value).partition(".")[0] for a in part.args if isinstance(a, ast.Constant)}
    return found


# Where each may be imported: folders end in a slash. Tests may, because they test what is there.
HOMES = {
    "streamlit": ("app.py", "ui/", "pages/", "tests/"),
    "altair": ("ui/charts/", "tests/"),
    "torch": ("engine/", "exported_models/", "benchmarks/", "tests/"),
    "torchvision": ("engine/", "exported_models/", "benchmarks/", "tests/"),
}
PYTHON = files(".py")


def test_libraries_stay_where_they_belong():
    used = {path: imports(path.read_text("utf-8")) for path in PYTHON}
    strays = [
        f"{library} in {name(path)}; it belongs in {', '.join(homes)}"
        for library, homes in HOMES.items()
        for path, found in used.items()
        if library in found and not name(path).startswith(homes)
    ]
    assert not strays


def test_the_engine_knows_no_interface():
    for path in PYTHON:
        if name(path).startswith("engine/"):
            assert not imports(path.read_text("utf-8")) & {"streamlit", "altair", "ui", "pages", "app"}, name(path)


OURS = [path for path in PYTHON if name(path).startswith(("engine/", "ui/", "pages/")) and path.stat().st_size]


def test_a_module_begins_with_what_it_is_for():
    firsts = {
        name(path): (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0] for path in OURS
    }
    assert not {path: first for path, first in firsts.items() if not re.fullmatch(r"[A-Z].*[.?:!]", first)}


# From the ground up: what stands on one floor imports what stands below it, or lies in the same package.
FLOORS = (
    "engine.step engine.image engine.statistics engine.methods",
    "engine.model engine.devices",
    "engine.ops engine.pictures",
    "engine.twin",
    "engine.net",
    "engine.target engine.half engine.trunk",
    "engine.nets engine.incremental",
    "engine.record engine.intake engine.data engine.optimize",
    "engine.look engine.explain engine.fool engine.paint",
    "engine.imagine engine.train",
    "engine.cli",
    "engine.__main__ ui.charts ui.jobs ui.icon ui.drawing",
    "ui.scene",
    "ui.links ui.ask",
    "ui.foot ui.sidebar ui.navigation",
    "ui.controls ui.atlas",
    "ui.lens ui.studio",
    "ui.fooled ui.gallery",
    "ui.main pages",
)
STANDS = {place: floor for floor, places in enumerate(FLOORS) for place in places.split()}
MODULES = {".".join(path.relative_to(PROJECT).with_suffix("").parts): path for path in OURS}
LONGEST = 500  # lines


def imported(path: Path) -> set[str]:
    """Which of our modules a file imports, anywhere in it."""
    found = set()
    for part in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(part, ast.Import):
            found |= {alias.name for alias in part.names}
        elif isinstance(part, ast.ImportFrom):
            found |= {part.module, *(f"{part.module}.{alias.name}" for alias in part.names)}
    return found & {*MODULES}


IMPORTS = {module: imported(path) - {module} for module, path in MODULES.items()}


def place(module: str) -> str:
    """Which entry of FLOORS a module belongs to: its own, or its package's."""
    while module and module not in STANDS:
        module = module.rpartition(".")[0]
    return module


def test_every_module_has_its_floor():
    assert not [module for module in MODULES if not place(module) and module not in ("engine.__init__", "ui.__init__")]


def test_imports_point_downwards():
    up = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if place(module) != place(other) and STANDS[place(other)] >= STANDS[place(module)]
    ]
    assert not up


def test_no_imports_go_in_a_circle():
    """Nor do those inside of functions."""
    left = dict(IMPORTS)
    while free := [module for module, others in left.items() if not others & {*left}]:
        for module in free:
            del left[module]
    assert not left, "these import one another, or what does"


def test_no_file_is_too_long():
    lengths = {module: len(path.read_text("utf-8").splitlines()) for module, path in MODULES.items()}
    assert not {module: length for module, length in lengths.items() if length > LONGEST}


def test_paths_that_texts_name_are_there():
    """In Markdown, comments and docstrings: whoever follows one arrives."""
    pattern = re.compile(
        r"(?<![\w/<>-])(?:\.\./)?((?:engine|ui|pages|tests|benchmarks|exported_models)/[\w/]+\.(?:py|md))\b"
    )
    gone = {
        f"{name(path)}: {found}"
        for path in files(".py", ".md")
        for found in pattern.findall(path.read_text("utf-8"))
        if not (PROJECT / found).is_file()
    }
    assert not gone


# Home folders of the usual systems, and where this very copy and its Python lie, unless that is a place that all have.
HERE = [str(path) for path in (PROJECT, Path(sys.prefix), Path.home()) if len(path.parts) > 2]
PLACES = ["/" + "home/", "/" + "Users/", "/" + "root/", "\\" + "Users\\", "site-" + "packages/", *HERE]


def test_no_file_names_a_place_on_someones_machine():
    pattern = re.compile("|".join(map(re.escape, PLACES)))
    for path in files(".py", ".md", ".toml", ".txt", ".json", ".csv", ".yml", ".yaml", ".cfg", ".sh", ""):
        for number, line in enumerate(path.read_text("utf-8", errors="ignore").splitlines(), 1):
            found = pattern.search(line)
            assert not found, f"{name(path)}, line {number} names {found[0]!r}"


def test_no_network_names_a_place_on_someones_machine():
    for path in files(".onnx"):
        content = path.read_bytes()
        assert not [place for place in PLACES if place.encode() in content], name(path)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch", {"torch"}),
        ("import torch.nn as x, os", {"torch", "os"}),
        ("from torch.nn import functional", {"torch"}),
        ("def f():\n    if True:\n        import torch", {"torch"}),
        ("import importlib\nimportlib.import_module('torch.nn')", {"importlib", "torch"}),
        ("from . import torch", set()),
        ("'import torch'  # import torch", set()),
    ],
)
def test_imports_are_found_however_they_are_written(source, expected):
    assert imports(source) == expected
