"""Where does what the app makes for itself stay between runs?"""

from __future__ import annotations

import os
import sys
from pathlib import Path


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
