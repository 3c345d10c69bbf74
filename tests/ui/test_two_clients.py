"""Two clients in one batch: each profile has a lane with the replies it has alone, and rates, table, files and report show it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_models import make_patch
from made_page_batches import ended, judged, opened, settings
from made_suites import WORDS, make_lab
from made_visit import Visit, served
from playwright.sync_api import Browser

from patchlab.engine import Lab
from patchlab.patches import Stack
from patchlab.patches.profile import Profile
from patchlab.records import Prompt
from patchlab.scoring.table import COARSE
from patchlab.ui.batch import batch_export, batch_table
from patchlab.ui.batch.batch_store import Batches, SecondClient
from patchlab.ui.batch.batch_table import PromptRow

pytestmark = pytest.mark.xdist_group("tabs")

SECOND = "patched 2: beta"
PROMPTS = [Prompt(words) for words in WORDS]


def two_patches(folder: Path) -> Lab:
    lab = make_lab(folder)
    make_patch(lab.base, "kind", length=4, seed=2).save_pretrained(folder / "kind-1.0.0")
    return lab


def texts(batches: Batches, key: str, lane: str) -> dict[str, str]:
    return {reply.prompt.key: reply.text for reply in batches.replies(key) if reply.lane == lane}


def test_each_client_has_the_replies_it_has_alone(tmp_path: Path) -> None:
    lab, batches = two_patches(tmp_path / "patches"), Batches(tmp_path / "batches")
    second = SecondClient.of(SECOND, Stack.parse("kind,calm:0.5"))
    both = batches.start(lab, settings(lab, lanes=lab.names_with([SECOND]), second=second), PROMPTS)
    assert ended(batches, both).status == "done" and batches.state(both).total == 4 * len(PROMPTS)
    first, other = (batches.start(lab, settings(lab, stack=stack), PROMPTS) for stack in ("calm:0.5", "kind,calm:0.5"))
    ended(batches, first), ended(batches, other)
    assert texts(batches, both, "patched") == texts(batches, first, "patched") != {}
    assert texts(batches, both, SECOND) == texts(batches, other, "patched")
    again = Batches(batches.root)
    assert again.state(both).settings.second == second and again.state(both).settings.lanes[2] == SECOND
    report = (batches.folder(both) / "report.html").read_text(encoding="utf-8")
    assert report.count(SECOND) > 4
    (batches.folder(both) / "report.html").unlink()
    (batches.folder(both) / "replies.jsonl").write_text("", encoding="utf-8")
    again.resume(lab, both)
    assert ended(again, both).status == "done" and texts(again, both, SECOND) == texts(batches, other, "patched")


def test_files_filters_and_votes_know_the_second_client() -> None:
    prompt = Prompt("asked")
    row = PromptRow(prompt, tuple(judged(lane, prompt, lane, toxic=lane == SECOND)
                                  for lane in ("base", "patched", SECOND, "reference")), SECOND)
    assert row.worse and batch_table.rates([row])["toxic"][SECOND] == (1, 1)
    assert "Patched 2: beta" in batch_table.rates_table([row]) and f'value="{SECOND}" checked' in batch_table.table([row], 0)
    pairs = [json.loads(line) for line in batch_export.as_pairs([row], COARSE).splitlines()]
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == [(SECOND, "base"), (SECOND, "patched")]
    found = json.loads(batch_export.as_comparator([row], COARSE))
    assert found["examples"][0]["custom_fields"][f"{SECOND} text"] == SECOND
    assert {each["name"] for each in found["metadata"]["custom_fields_schema"]} == {*found["examples"][0]["custom_fields"]}
    assert f"{SECOND} text" in batch_export.as_csv([row], COARSE) and SECOND in batch_export.as_jsonl([row], COARSE)


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of a tiny model with the profiles acme and beta."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PATCHLAB_HOME", str(home))
        lab = two_patches(home / "patches")
        for name, stack in (("acme", "calm@1.0.0:0.5"), ("beta", "kind@1.0.0:1")):
            parsed = Stack.parse(stack)
            manifests = [lab.registry.find(entry.name).manifest for entry in parsed.entries]
            (home / "profiles").mkdir(exist_ok=True)
            Profile.of(name, parsed, manifests, [entry.strength for entry in parsed.entries]).save(
                home / "profiles" / f"{name}.json")
        with served(lab) as found:
            yield found


def chosen(visit: Visit, field: str, words: str) -> None:
    visit.page.click(f"#{field} input")
    visit.page.click(f"[role=option]:has-text('{words}')")
    visit.page.wait_for_function("([field, words]) => document.querySelector(`#${field} input`).value === words",
                                 arg=[field, words])


@pytest.mark.parametrize(("name", "width", "query"), [("clients-desktop", 1280, ""), ("clients-phone", 390, ""),
                                                       ("clients-dark", 1280, "?__theme=dark")])
def test_a_second_profile_gets_columns_and_rates_of_its_own(browser: Browser, clients: str, name: str, width: int,
                                                            query: str) -> None:
    visit = Visit(browser, clients + query, width=width)
    page = visit.page
    opened(visit)
    chosen(visit, "batch-profile", "acme")
    chosen(visit, "batch-versus", "acme")
    page.fill("#batch-prompts textarea", "\n".join(WORDS[:3]))
    page.click("#batch-run")
    page.wait_for_selector("#batch-status [role=alert]:has-text('The profile acme twice')")
    chosen(visit, "batch-versus", "beta")
    page.click("#batch-run")
    page.wait_for_selector("#batch-status:has-text('Done: 3 prompts, 12 replies')")
    page.wait_for_selector("#batch-table table")
    assert "“Patched” is the profile acme." in page.inner_text("#batch-status")
    assert page.locator("#batch-rates tbody th").all_inner_texts() == ["Unpatched", "Patched", "Patched 2: beta", "Reference"]
    assert page.locator("#batch-table td[data-column='Patched 2: beta']").count() == 3
    page.click(".ballot >> nth=0 >> label:has-text('Patched 2: beta')")
    page.wait_for_selector(".votes-told:has-text('1 vote')")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    visit.shot(name)
    visit.left(clients)
