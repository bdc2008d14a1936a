"""Convoscope: what does this network see? Run it with `streamlit run app.py`.

The frame around the pages is in ui/main.py. It is not here because Streamlit takes a folder `pages/` beside the script
that it runs for its old automatic navigation, and greets the first visitor who follows a link with "Page not found".
"""

from pathlib import Path

import streamlit as st

app = st.App(Path(__file__).parent / "ui" / "main.py")
