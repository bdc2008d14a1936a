"""The frame around every page: navigation from pages/, the sidebar's shared choices, then the page itself."""

import streamlit as st

from ui import icon, navigation, sidebar

st.set_page_config("Convoscope", icon.eye(), layout="wide", initial_sidebar_state=260)
page = st.navigation(navigation.pages(), position="top")
st.html(
    "<style>.stMainBlockContainer {padding: 4rem 1.5rem 3rem}"
    "@media (max-width: 640px) {.stMainBlockContainer {padding: 4rem 1rem}}</style>"
)
sidebar.sidebar()
page.run()
