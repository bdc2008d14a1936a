"""How is a graph drawn, and clicked on? Graphviz draws it in the browser; a few lines of script pass the clicks on.

Streamlit's chart of a graph answers no clicks. So a component that shows nothing listens to those on the chart beside
it, and sees to it that the chosen box is within sight. Where that fails, the other ways to choose are still there.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

JS = """
const known = new WeakMap(); // by the element that Streamlit gives us: what was set up

export default function ({ data, parentElement, setTriggerValue }) {
  let set = known.get(parentElement);
  if (!set) {
    known.set(parentElement, (set = { shown: null }));
    set.watch = new MutationObserver(() => look(set));
    set.click = (event) => {
      const node = event.target.closest && event.target.closest("g.node");
      const name = node && node.querySelector("title");
      if (name && node.closest(set.place)) set.tell(name.textContent);
    };
    document.addEventListener("click", set.click);
  }
  set.tell = (name) => setTriggerValue("box", name);
  set.place = ".st-key-" + data.place;
  set.data = data;
  const place = document.querySelector(set.place);
  set.watch.disconnect();
  if (place) set.watch.observe(place, { childList: true, subtree: true });
  look(set);
  return () => {
    set.watch.disconnect();
    document.removeEventListener("click", set.click);
    known.delete(parentElement);
  };
}

function look(set) { // the boxes are clickable, and the chosen one is scrolled to, once
  const place = document.querySelector(set.place);
  if (!place) return;
  for (const node of place.querySelectorAll("g.node")) {
    node.style.cursor = "pointer";
    if (node.querySelector("title")?.textContent !== set.data.chosen) continue;
    const what = set.data.of + "|" + set.data.chosen;
    const box = node.getBoundingClientRect();
    if (set.shown === what || !box.height) continue;
    let pane = node.parentElement;
    const above = place.parentElement;
    while (pane && pane !== above && pane.scrollHeight <= pane.clientHeight + 4) pane = pane.parentElement;
    if (pane && pane !== above) {
      const around = pane.getBoundingClientRect();
      pane.scrollTop += box.top + box.height / 2 - around.top - around.height / 2;
      pane.scrollLeft += box.left + box.width / 2 - around.left - around.width / 2;
    }
    set.shown = what;
  }
}
"""
_mount = st.components.v2.component("convoscope_drawing", html="<span></span>", js=JS)


def graph(dot: str, *, chosen: str, of: str, choose: Callable[[str], None], alt: str, key: str, height: int) -> None:
    """Draw a graph in the DOT language; a click on a node calls `choose` with its name before the page is drawn again.

    chosen: the node to bring within sight. of: which drawing this is; another one is scrolled anew. height: pixels,
    which scroll where the graph is larger.
    """

    def clicked() -> None:
        name = (st.session_state.get(f"{key}_clicks") or {}).get("box")
        if name:
            choose(name)

    with st.container(key=key, height=height, border=True):
        st.graphviz_chart(dot, width="content", alt=alt)
    _mount(key=f"{key}_clicks", data={"place": key, "chosen": chosen, "of": of}, on_box_change=clicked)
