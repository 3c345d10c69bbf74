"""The tab's handlers, called as plain functions with component values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gradio as gr
import pytest

from patchlab.engine import Lab
from patchlab.patches.stack import common_strength
from patchlab.scoring.table import Scorer
from patchlab.ui import compare, copy, page, session
from patchlab.ui.compare import Compare, patch_panel
from patchlab.ui.compare import tab as handlers
from patchlab.ui.status_line import status

ANNA, BEN = gr.Request(session_hash="anna"), gr.Request(session_hash="ben")


@pytest.fixture(scope="module")
def tab(lab: Lab, scorers: list[Scorer]) -> Compare:
    with gr.Blocks(analytics_enabled=False):
        return compare.build(lab, scorers)


def values(tab: Compare, **changed: Any) -> dict[Any, Any]:
    """The components' first values, with some changed by the name of the control."""
    given = {each: each.value for each in tab.controls.inputs} | {tab.results.rows: [], tab.results.ran: None}
    given |= {tab.controls.prompt: "How can I save money for a vacation?", tab.controls.length: 8}
    return given | {getattr(tab.controls, name): value for name, value in changed.items()}


@pytest.fixture
def ran(tab: Compare, monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """The values of the page after a run, whose changes take effect at once."""
    monkeypatch.setattr(handlers, "SETTLE", 0)
    *_, end = tab.run(values(tab), ANNA)
    return values(tab) | {place: end[place] for place in (tab.results.ran, tab.results.rows)}


def test_another_stack_writes_the_patched_column_anew_and_greys_the_old_text(tab: Compare, ran: dict[Any, Any],
                                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = session.stream, []

    def watched(lanes: Any, *args: Any, **options: Any) -> Any:
        written.append([lane.name for lane in lanes])
        return write(lanes, *args, **options)

    monkeypatch.setattr(session, "stream", watched)
    before, panel = ran[tab.results.ran], tab.controls.panel
    first, *_, end = tab.rerun(ran | {slot.on: False for slot in panel.slots} | {tab.controls.prompt: "Another prompt"}, ANNA)
    assert written == [["patched"]] and set(first) == {tab.results.lanes[1], tab.results.status}
    assert 'class="lane stale"' in first[tab.results.lanes[1]] and "stale" not in end[tab.results.lanes[1]]
    after = end[tab.results.ran]
    assert after.request.prompt == before.request.prompt and not after.request.stack
    base, patched = after.view.lanes[:2]
    assert base == before.view.lanes[0] and patched.replies[0].text == base.replies[0].text
    assert len(end[tab.results.rows]) == 2 and copy.EQUALS_BASE in end[tab.results.verdict]


def test_another_seed_writes_all_lanes_anew(tab: Compare, ran: dict[Any, Any]) -> None:
    *_, end = tab.rerun(ran | {tab.controls.seed: "7"}, ANNA)
    assert end[tab.results.ran].request.sampling.seed == 7
    assert end[tab.results.ran].view.lanes[0] != ran[tab.results.ran].view.lanes[0]
    (only,) = tab.rerun(ran | {tab.controls.seed: "x"}, ANNA)
    assert 'role="alert"' in only[tab.results.status] and set(only) == {tab.results.status}


def test_no_change_and_no_run_are_nothing_to_write_anew(tab: Compare, ran: dict[Any, Any]) -> None:
    assert list(tab.rerun(ran, ANNA)) == []
    off = {slot.on: False for slot in tab.controls.panel.slots}
    assert list(tab.rerun(ran | off | {tab.results.ran: None}, BEN)) == []


def test_of_many_changes_the_last_one_is_written(tab: Compare, ran: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    slot, later = tab.controls.panel.slots[0], []

    def meanwhile(seconds: float) -> None:  # another change comes while the first one waits
        monkeypatch.setattr(handlers.time, "sleep", lambda seconds: None)
        later.extend(tab.rerun(ran | {slot.strength: 0.5}, ANNA))

    monkeypatch.setattr(handlers.time, "sleep", meanwhile)
    assert list(tab.rerun(ran | {slot.strength: 0.25}, ANNA)) == []
    assert later[-1][tab.results.ran].request.stack.entries[0].strength == 0.5


def test_a_second_word_of_one_change_writes_nothing_also_where_the_run_ends_meanwhile(
        tab: Compare, ran: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    off = ran | {slot.on: False for slot in tab.controls.panel.slots}
    running, later = tab.rerun(off, ANNA), []
    later += [next(running), next(running)]
    monkeypatch.setattr(handlers.time, "sleep", lambda seconds: later.extend(running))  # the run ends while the second one waits
    assert list(tab.rerun(off, ANNA)) == []
    assert not later[-1][tab.results.ran].request.stack and not tab.going


def test_a_change_in_the_middle_of_a_run_starts_that_run_again(tab: Compare, ran: dict[Any, Any]) -> None:
    running = tab.run(values(tab, prompt="How can I sleep better?"), ANNA)
    next(running)
    *_, end = tab.rerun(ran | {slot.on: False for slot in tab.controls.panel.slots}, ANNA)
    assert end[tab.results.ran].request.prompt.text == "How can I sleep better?" and end[tab.results.ran].view.whole
    assert list(running) == [] and not tab.going and not tab.signals


def test_a_run_writes_every_column_and_chart_and_one_row(tab: Compare) -> None:
    *_, end = tab.run(values(tab), ANNA)
    assert set(end) == set(tab.results.outputs)
    assert all("<article" in end[lane] for lane in tab.results.lanes)
    assert all(end[chart]["data"][0]["x"] for chart in tab.results.charts.values())
    assert len(end[tab.results.rows]) == 1 and copy.DONE in end[tab.results.status]


@pytest.mark.parametrize("prompt", ["", "x " * 25_000])
def test_a_bad_prompt_is_one_alert_and_leaves_no_earlier_reply_beside_it(tab: Compare, prompt: str) -> None:
    (only,) = tab.run(values(tab, prompt=prompt), ANNA)
    assert 'role="alert"' in only[tab.results.status] and tab.results.rows not in only
    assert all(copy.IDLE in only[lane] for lane in tab.results.lanes)
    assert not any(line["x"] for chart in tab.results.charts.values() for line in only[chart]["data"])


def test_a_defect_costs_one_run_and_not_the_page(tab: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "stream", lambda *args, **options: 1 / 0)
    (only,) = tab.run(values(tab), ANNA)
    assert copy.UNEXPECTED in only[tab.results.status]


def test_a_defect_in_the_middle_keeps_what_was_written(tab: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    write = session.stream

    def broken(*args: Any, **options: Any) -> Iterator[Any]:
        with closing(write(*args, **options)) as steps:
            yield next(steps)
        raise ZeroDivisionError

    monkeypatch.setattr(session, "stream", broken)
    *_, end = tab.run(values(tab), ANNA)
    assert set(end) == {tab.results.status} and copy.UNEXPECTED in end[tab.results.status]


def test_stop_keeps_the_text_so_far_and_records_it(tab: Compare) -> None:
    running = tab.run(values(tab), ANNA)
    next(running)
    assert tab.stop(ANNA) == gr.skip(), "the run itself says that it was stopped"
    *_, end = running
    assert "stopped by you" in end[tab.results.lanes[0]] and copy.STOPPED in end[tab.results.status]
    assert len(end[tab.results.rows]) == 1
    assert copy.NOTHING_TO_STOP in tab.stop(ANNA)


def test_stop_ends_the_own_run_only(tab: Compare) -> None:
    running = tab.run(values(tab), ANNA)
    next(running)
    assert copy.NOTHING_TO_STOP in tab.stop(BEN)
    *_, end = running
    assert copy.DONE in end[tab.results.status]


def test_a_closed_tab_leaves_nothing_running(tab: Compare) -> None:
    running = tab.run(values(tab), ANNA)
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert copy.NOTHING_TO_STOP in tab.stop(ANNA) and tab.lab.scheduler.in_flight == 0
    running = tab.run(values(tab), ANNA)
    next(running)
    tab.leave(ANNA)
    *_, end = running
    assert copy.STOPPED in end[tab.results.status] and tab.lab.scheduler.in_flight == 0


def test_a_second_press_of_run_takes_the_place_of_the_first(tab: Compare) -> None:
    first = tab.run(values(tab), ANNA)
    next(first)
    second = tab.run(values(tab), ANNA)
    next(second)
    assert list(first) == [], "the columns belong to the second now"
    assert tab.stop(ANNA) == gr.skip(), "the run itself says that it was stopped"
    *_, end = second
    assert copy.STOPPED in end[tab.results.status] and tab.lab.scheduler.in_flight == 0


def test_two_status_lines_are_never_the_same() -> None:
    assert status("Done.") != status("Done.")


def test_an_example_brings_its_domain(tab: Compare) -> None:
    example = copy.EXAMPLES[0].prompt
    assert tab.request(values(tab, prompt=example.text, kind=example.kind)).prompt == example
    assert tab.request(values(tab)).stack.names == tuple(tab.controls.panel.order.value)


def test_sequential_mode_takes_the_order_and_one_strength(tab: Compare) -> None:
    panel = tab.controls.panel
    given = values(tab) | {panel.mode: "sequential", panel.shared: 0.5}
    order = list(reversed(given[panel.order]))
    known = {installed.manifest.name: installed.manifest for installed in tab.lab.planner.installed()}
    updates = patch_panel.reordered(panel, known, given, order)
    assert updates[panel.order] == order
    assert [updates[slot.on]["label"] for slot in panel.slots] == [known[name].title for name in order]
    stack = tab.request(given | {panel.order: order}).stack
    assert stack.mode == "sequential" and stack.names == tuple(order)
    assert {entry.strength for entry in stack.entries} == {0.5}


def test_a_sequence_begins_at_what_the_ticked_patches_would_have_together(tab: Compare) -> None:
    panel, known = tab.controls.panel, [installed.manifest for installed in tab.lab.planner.installed()]
    assert panel.common(values(tab)) == panel.shared.value == common_strength([each.strength for each in known])
    alone = values(tab) | {slot.on: index == 1 for index, slot in enumerate(panel.slots)}
    assert panel.common(alone) == known[1].strength != panel.shared.value
    nothing = values(tab) | {slot.on: False for slot in panel.slots}
    assert panel.common(nothing) == panel.shared.value


@pytest.mark.parametrize("typed", ["-5", "1.5", str(2**63 + 1), "1e3", "seven"])
def test_a_seed_that_is_none_is_refused_with_what_was_typed(tab: Compare, typed: str) -> None:
    (only,) = tab.run(values(tab, seed=tab.controls.seed.preprocess(typed)), ANNA)
    assert 'role="alert"' in only[tab.results.status] and typed in only[tab.results.status]


@pytest.mark.parametrize(("typed", "meant"), [("", 0), (" 7 ", 7), (str(2**63 - 1), 2**63 - 1)])
def test_a_seed_is_what_was_typed(tab: Compare, typed: str, meant: int) -> None:
    assert tab.request(values(tab, seed=typed)).sampling.seed == meant


def test_an_unticked_patch_is_not_in_the_stack(tab: Compare) -> None:
    panel = tab.controls.panel
    off = {slot.on: False for slot in panel.slots}
    assert not tab.request(values(tab) | off).stack


def test_the_page_keeps_to_itself(lab: Lab) -> None:
    blocks = page.build(lab)
    assert blocks.analytics_enabled is False
    assert all("http" not in str(font) for font in page.theme()._stylesheets)
