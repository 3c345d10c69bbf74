"""A page looks after its visitor's work; what an opening page is answered late stops nothing that was started meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
import pytest

from patchlab.ui.kept_job import KeptKey


@pytest.mark.parametrize(("kept", "active"), [("", False), ("done", False), ("going", True)])
def test_an_opening_page_starts_the_clock_and_never_stops_it(kept: str, active: bool) -> None:
    def look(values: Mapping[Any, Any]) -> dict[Any, Any]:
        assert key.of(values) == kept != "", "without a key there is nothing to look at"
        return {key.clock: gr.Timer(active=active)}

    with gr.Blocks() as page:
        key = KeptKey.place("work")
        key.follow(look, {key.kept, key.started}, key.all)
    ticking, opening = (event.fn for event in page.fns.values())
    found = opening({key.kept: kept, key.started: ""})  # type: ignore[misc]
    assert not found.pop(key.opening).active and set(found) == ({key.clock} if active else set())
    assert ticking is look and not key.clock.active and key.opening.active
    if kept:
        assert ticking({key.kept: "", key.started: kept})[key.clock].active is active
