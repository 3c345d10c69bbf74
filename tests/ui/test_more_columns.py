"""Further columns of Compare: each the replies of its own stack, frozen, in charts, files, kept runs and a conversation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import pytest
from made_visit import PALE, UNNAMED, Visit
from playwright.sync_api import Browser

from patchlab.engine import Lab, Sampling
from patchlab.errors import InputError
from patchlab.patches import Stack
from patchlab.patches.profile import Profile
from patchlab.records import Prompt
from patchlab.scoring.table import Scorer
from patchlab.ui import charts, compare, copy, session
from patchlab.ui.compare import history, more_columns, run_export, verdict_sentence
from patchlab.ui.compare.kept_runs import OTHERS, Ran, recalled, record
from patchlab.ui.compare.tab import Compare
from patchlab.ui.session import OtherStack, RunRequest, View, continued, run

pytestmark = pytest.mark.xdist_group("browser")  # one process, so that what its tests share is made once

HARM = next(each for each in copy.EXAMPLES if each.prompt.domain == "refusal")
SAMPLING = Sampling(max_new_tokens=8, seed=3)
TWO = (OtherStack("patched 2", "Refusal 0.5", Stack.parse("refusal:0.5")), OtherStack("patched 3", "no patch", Stack()))
LANES = ("base", "patched", "reference")


def asked(**changes: Any) -> RunRequest:
    return replace(RunRequest(HARM.prompt, Stack.parse("toxicity:1"), SAMPLING, others=TWO), **changes)


def last(lab: Lab, scorers: list[Scorer], request: RunRequest, earlier: View | None = None) -> View:
    *_, view = run(lab, scorers, request, earlier=earlier)
    return view


def texts(view: View) -> dict[str, str]:
    return {lane.name: lane.replies[0].text for lane in view.lanes}


def test_each_column_is_the_reply_of_its_stack_alone_and_changes_no_other(lab: Lab, scorers: list[Scorer]) -> None:
    view, few = last(lab, scorers, asked()), last(lab, scorers, asked(others=()))
    assert [lane.name for lane in view.lanes] == [*LANES, *OTHERS] and texts(few).items() <= texts(view).items()
    alone = last(lab, scorers, asked(stack=TWO[0].stack, others=()))
    assert texts(view)["patched 2"] == texts(alone)["patched"] and texts(view)["patched 3"] == texts(view)["base"]
    assert view.labels == {"patched 2": "Refusal 0.5", "patched 3": "no patch"}
    drawn = charts.figure("toxicity", [lane.name for lane in view.lanes], view)["data"]
    assert len({json.dumps(line["line"]) for line in drawn}) == 5 and all(line["x"] for line in drawn)
    assert [clause.lane for clause in verdict_sentence.clauses(view)] == [*LANES, *OTHERS]


def test_another_stack_writes_the_patched_column_only(lab: Lab, scorers: list[Scorer], monkeypatch: pytest.MonkeyPatch) -> None:
    before, written, write = last(lab, scorers, asked()), [], session.stream

    def watched(lanes: Any, *args: Any, **kwargs: Any) -> Any:
        written.extend(lane.name for lane in lanes)
        return write(lanes, *args, **kwargs)

    monkeypatch.setattr(session, "stream", watched)
    after = last(lab, scorers, asked(stack=Stack.parse("toxicity:0")), before)
    assert written == ["patched"] and after.lanes[2:] == before.lanes[2:] and after.labels == before.labels
    assert texts(after)["patched"] == texts(after)["base"]


def test_each_column_has_a_history_of_its_own(lab: Lab, scorers: list[Scorer]) -> None:
    first = last(lab, scorers, asked())
    turns = continued(first)
    second = last(lab, scorers, asked(prompt=Prompt("And then?"), turns=turns))
    for lane in (*LANES, *OTHERS):
        assert session.said(turns, lane)[1].content == texts(first)[lane].strip()
    alone = last(lab, scorers, asked(stack=TWO[0].stack, others=()))
    lone = last(lab, scorers, asked(prompt=Prompt("And then?"), stack=TWO[0].stack, others=(), turns=continued(alone)))
    assert texts(second)["patched 2"] == texts(lone)["patched"]
    with pytest.raises(InputError, match="Patched 2, which has no part in this conversation"):
        more_columns.require_known([replace(TWO[0], label="another")], TWO)


def test_files_lists_and_kept_runs_have_every_column(lab: Lab, scorers: list[Scorer]) -> None:
    ran = Ran(asked(), last(lab, scorers, asked()))
    row = history.row(ran.view)
    found = recalled(str(json.loads(record(ran, replace(row, key="k")))["record"]), LANES)
    assert repr(found) == repr(ran)
    made = {lane["lane"]: lane for lane in json.loads(run_export.as_json(ran))["lanes"]}
    assert made["patched 2"]["stack"] == "refusal:0.5" and made["patched 2"]["label"] == "Refusal 0.5"
    assert "stack" not in made["patched"] and "Patched 2 (Refusal 0.5)" in run_export.as_csv(ran)
    short = ran.without("patched 2")
    page = history.table([history.row(short.view), row])
    assert "Patched 2: Refusal 0.5" in page and page.count('<td data-column="Patched 2">') == 2
    assert [lane.name for lane in short.view.lanes] == [*LANES, "patched 3"] and short.request.others == TWO[1:]
    for wrong in (ran._replace(request=replace(ran.request, others=TWO[:1])),
                  ran._replace(request=replace(ran.request, others=(replace(TWO[0], lane="<b>"), TWO[1]))),
                  ran._replace(request=replace(ran.request, others=(replace(TWO[0], label="x" * 999), TWO[1])))):
        with pytest.raises(InputError, match="run the prompt again"):
            recalled(str(json.loads(record(wrong, row))["record"]), LANES)


def added(visit: Visit, number: int) -> None:
    if not visit.page.is_visible("#add-column"):
        visit.page.click("#more-columns button")
    visit.page.click("#add-column")
    visit.page.wait_for_selector(f"#lane-more-{number} .lane")


def test_columns_are_added_run_kept_and_removed(browser: Browser, address: str) -> None:
    visit = Visit(browser, address)
    page = visit.page
    visit.example(HARM.label)
    page.evaluate("window.plots = [...document.querySelectorAll('.live-chart-node')]")
    added(visit, 1)
    frozen = page.inner_text("#lane-more-1 .about")
    page.locator(".patch-slot input[type=checkbox]").first.uncheck()
    page.wait_for_function("document.querySelectorAll('#history tbody tr').length === 2")
    assert page.inner_text("#lane-more-1 .about") == frozen != "" and copy.IDLE in page.inner_text("#lane-more-1")
    added(visit, 2)
    assert page.is_disabled("#add-column") and page.inner_text("#lane-more-2 .about") != frozen
    visit.run(tokens=16)
    assert len(visit.points("toxicity")) == len(visit.points("refusal")) == 5 and page.locator(".legend li").count() == 10
    assert page.locator("#verdict .clause").count() == 5
    first = page.inner_text("#lane-more-1 .text")
    assert page.inner_text("#lane-more-2 .text") == visit.text("patched"), "the same ticks give the same reply"
    page.locator(".patch-slot input[type=checkbox]").first.check()
    page.wait_for_function("document.querySelectorAll('#history tbody tr').length === 4")
    assert visit.text("patched") == first == page.inner_text("#lane-more-1 .text")
    assert page.evaluate("window.plots.every((each) => each.isConnected)"), "no chart is built anew"
    boxes = [page.locator(f"#lane-{lane}").bounding_box() for lane in LANES]
    assert all(box and box["x"] + box["width"] <= 960 for box in boxes), "the first three are in view"
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.evaluate("window.shifted") < 0.1 and page.evaluate(UNNAMED) == [] and page.evaluate(PALE) == []
    visit.shot("columns-desktop")
    page.click("#remove-patched-2")
    page.wait_for_selector("#lane-more-2", state="detached")
    page.wait_for_function("""() => [...document.querySelectorAll('.live-chart-node')].every(
        (each) => /^(\\d+ ){3}[1-9]\\d*$/.test(each.dataset.points))""")
    assert page.inner_text("#lane-more-1 h3") == "Patched 3" and page.locator("#verdict .clause").count() == 4
    page.click("#history .recall >> nth=0")
    page.wait_for_selector("#lane-more-2 .lane")
    assert page.inner_text("#lane-more-1 .text") == first
    page.reload()
    page.wait_for_selector("#history .recall")
    page.click("#history .recall >> nth=0")
    page.wait_for_selector("#lane-more-2 .lane")
    assert page.inner_text("#lane-more-1 .text") == first and page.inner_text("#lane-more-1 .about") == frozen
    visit.left(address)


@pytest.mark.parametrize(("name", "width", "query"), [("columns-phone", 390, ""), ("columns-dark", 1280, "?__theme=dark")])
def test_five_columns_on_a_phone_and_dark(browser: Browser, address: str, name: str, width: int, query: str) -> None:
    visit = Visit(browser, address + query, width=width)
    added(visit, 1)
    added(visit, 2)
    visit.example(HARM.label)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.shot(name)
    visit.page.locator("#lane-more-2").scroll_into_view_if_needed()
    box = visit.page.locator("#lane-more-2").bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= width, "the last column is reached by scrolling the row"
    visit.page.screenshot(path=f".screenshots/{name}-end.png")
    visit.left(address)



class Visitor(NamedTuple):
    """What a handler reads of a request."""

    session_hash: str = "anna"


@pytest.fixture
def tab(lab: Lab, scorers: list[Scorer]) -> Compare:
    with gr.Blocks(analytics_enabled=False):
        return compare.build(lab, scorers)


def values(tab: Compare, found: dict[Any, Any], **changed: Any) -> dict[Any, Any]:
    """The components' first values after the updates that a handler gave."""
    given = {each: each.value for each in (*tab.controls.inputs, tab.results.more.source)}
    given |= {tab.results.rows: [], tab.results.ran: None, tab.controls.prompt: HARM.prompt.text, tab.controls.length: 8}
    return given | {place: update for place, update in found.items() if place in (tab.controls.added, tab.results.ran)} | {
        getattr(tab.controls, name): value for name, value in changed.items()}


def test_a_column_is_added_twice_at_most_and_not_during_a_run(tab: Compare) -> None:
    changes, found = tab.column_changes, {}
    for count in (1, 2):
        found = changes.add(values(tab, found), Visitor())  # type: ignore[arg-type]
        assert [each.lane for each in found[tab.controls.added]] == list(OTHERS[:count])
    full = changes.add(values(tab, found), Visitor())  # type: ignore[arg-type]
    assert set(full) == {tab.results.status} and "Two more columns already" in full[tab.results.status]
    tab.going["anna"] = asked()
    for busy in (changes.add(values(tab, {}), Visitor()), changes.remove(0, values(tab, found), Visitor())):  # type: ignore[arg-type]
        assert set(busy) == {tab.results.status} and "press Stop" in busy[tab.results.status]
    del tab.going["anna"]
    left = changes.remove(0, values(tab, found), Visitor())  # type: ignore[arg-type]
    assert [each.lane for each in left[tab.controls.added]] == ["patched 3"]


def test_a_profile_is_a_column_and_a_conversation_has_those_that_it_began_with(
        tab: Compare, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHLAB_HOME", str(tmp_path))
    (tmp_path / "profiles").mkdir()
    manifest = lab.registry.find("refusal", fingerprints=lab.base.fingerprints).manifest
    Profile.of("acme", Stack.parse(f"refusal@{manifest.version}:0.5"), [manifest], [0.5]).save(
        tmp_path / "profiles" / "acme.json")
    source = {tab.results.more.source: "acme"}
    found = tab.column_changes.add(values(tab, {}) | source, Visitor())  # type: ignore[arg-type]
    [other] = found[tab.controls.added]
    assert (other.label, str(other.stack)) == ("Profile acme", f"refusal@{manifest.version}:0.5")
    *_, end = tab.run(values(tab, found), Visitor())  # type: ignore[arg-type]
    more = tab.column_changes.add(values(tab, found | end), Visitor())  # type: ignore[arg-type]
    *_, refused = tab.run(values(tab, end | more, talk="same"), Visitor())  # type: ignore[arg-type]
    assert "which has no part in this conversation" in refused[tab.results.status] and set(refused) == {tab.results.status}
    *_, on = tab.run(values(tab, found | end, talk="same"), Visitor())  # type: ignore[arg-type]
    assert len(on[tab.results.ran].view.turns) == 1 and "Profile acme" in on[tab.results.more.columns[0]]["value"]
