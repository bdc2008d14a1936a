"""Where does what the app makes for itself stay between runs, and for whom is the app open?"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SHIPPED = PROJECT / "exported_models"


def hosted() -> bool:
    """Whether the app is open to people who do not know each other (CONVOSCOPE_HOSTED is set, and not to 0).

    Then nobody types in paths of the server's files, and the networks that somebody brought are listed for nobody else.
    """
    return os.environ.get("CONVOSCOPE_HOSTED", "") not in ("", "0")


def home() -> Path:
    """CONVOSCOPE_HOME, or "convoscope" in the user's cache directory. It may not exist yet."""
    if given := os.environ.get("CONVOSCOPE_HOME"):
        return Path(given)
    if sys.platform == "win32":
        caches = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "convoscope"
