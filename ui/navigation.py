"""Which pages are there, and in which order? The folder pages/ says it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from ui.links import PAGES

SECTIONS = ("start", "look", "explain", "imagine", "fool", "paint")  # their order; others come after
FIRST_LINE = re.compile(r'"""(.*?)(?:"""|\n)')  # of a page's docstring


@dataclass(frozen=True)
class PageFile:
    """One page: its file, its name in the navigation, and the question that it answers."""

    path: Path
    title: str
    question: str


def sections() -> dict[str, list[PageFile]]:
    """Each folder in pages/ is a section, each file a page; "Title: question?" is the first line of its docstring."""
    order = {name: place for place, name in enumerate(SECTIONS)}
    found: dict[str, list[PageFile]] = {}
    for folder in sorted(PAGES.iterdir(), key=lambda folder: (order.get(folder.name, len(order)), folder.name)):
        for file in sorted(folder.glob("*.py")):
            first = FIRST_LINE.match(file.read_text("utf-8"))  # by hand: in several threads, `ast.parse` fails at times
            title, _, question = (first[1] if first else file.stem).partition(": ")
            found.setdefault(folder.name, []).append(PageFile(file, title, question))
    return found


def pages() -> dict[str, list]:
    """The pages as Streamlit wants them; the start section has no heading, and its first page is where one lands."""
    return {
        "" if section == SECTIONS[0] else section.capitalize(): [
            st.Page(page.path, title=page.title, url_path=page.path.stem, default=section == SECTIONS[0] and place == 0)
            for place, page in enumerate(found)
        ]
        for section, found in sections().items()
    }
