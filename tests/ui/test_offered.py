"""A visitor switches presets: each is loaded once, patches and examples follow, and runs of other visitors go on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from made_models import make_backbone, make_patch
from made_visit import Visit, served
from playwright.sync_api import Browser

from patchlab.engine import Lab
from patchlab.errors import ModelError
from patchlab.models import presets
from patchlab.registry import Registry
from patchlab.ui import copy
from patchlab.ui.offered import Offered


@pytest.fixture
def tiny(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> tuple[Lab, Lab]:
    """Two made presets, each with a patch of its own; the second has a reference."""
    monkeypatch.setitem(presets.PRESETS, "one", replace(presets.PRESETS["pocket"], name="one", title="The first"))
    monkeypatch.setitem(presets.PRESETS, "two", replace(presets.PRESETS["pocket"], name="two", title="The second"))
    folder = tmp_path_factory.mktemp("patches")
    one, two = make_backbone("llama"), make_backbone("qwen2")
    for base, name in ((one, "calm"), (two, "kind")):
        make_patch(base, name, length=3).save_pretrained(folder / f"{name}-1.0.0")
    registry = Registry([folder])
    return Lab(one, registry=registry, name="one", about="The first models."), Lab(
        two, make_backbone("qwen2", seed=1), registry=registry, name="two", about="The second models.")


def test_a_preset_is_loaded_once_however_many_ask(tiny: tuple[Lab, Lab]) -> None:
    asked = []

    def load(name: str) -> Lab:
        asked.append(name)
        time.sleep(0.05)
        return tiny[1]

    offered = Offered(tiny[0], ["one", "two"], load)
    assert list(offered.titles.items()) == [("one", "The first"), ("two", "The second")]
    with ThreadPoolExecutor(4) as pool:
        assert {*pool.map(offered.get, ["two", "one"] * 4)} == {*tiny} and asked == ["two"]


def test_a_preset_that_memory_does_not_hold_is_refused(tiny: tuple[Lab, Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "two", replace(presets.PRESETS["two"], sizes=(5000.0,)))
    offered = Offered(tiny[0], ["two"], lambda name: tiny[1])
    with pytest.raises(ModelError, match=r"GB of free memory; expected about \d+\.8 GB for preset two"):
        offered.get("two")
    assert not offered.loaded("two")


def choose(visit: Visit, title: str) -> None:
    visit.page.click("#preset input")
    visit.page.click(f"ul[role=listbox] li:has-text('{title}')")


def test_patches_examples_and_columns_follow_the_choice(browser: Browser, tiny: tuple[Lab, Lab]) -> None:
    failing = [True]

    def load(name: str) -> Lab:
        if failing:
            failing.pop()
            raise ModelError("no such luck", expected="luck", do="try again")
        return tiny[1]

    with served(Offered(tiny[0], ["one", "two"], load)) as address:
        visit, other = Visit(browser, address), Visit(browser, address)
        choose(visit, "The second")
        visit.page.wait_for_selector("#preset-status [role=alert]:has-text('No such luck')")
        choose(visit, "The second")
        visit.page.wait_for_selector("#lane-reference")
        visit.page.wait_for_selector("#chart-refusal .main-svg")
        assert "The second models." in (visit.page.locator("#about").text_content() or "")
        assert visit.page.locator(".patch-slot label >> nth=0").inner_text().startswith("kind")
        for name in ("prompt", "run", "status", "lane-base", "preset"):
            assert visit.page.locator(f"#{name}").count() == 1, name
        visit.page.click(f"text={copy.REAL_EXAMPLES[0].label}")
        assert visit.page.input_value("#prompt textarea") == copy.REAL_EXAMPLES[0].prompt.text
        visit.page.fill("#prompt textarea", "tell me a story")
        visit.run(tokens=8)
        assert visit.text("reference") and visit.page.locator("#history tbody tr").count() == 1
        assert other.page.locator("#lane-reference").count() == 0 and "The first models." in (
            other.page.locator("#about").text_content() or "")
        other.page.fill("#prompt textarea", "tell me a story")
        other.run(tokens=8)
        choose(visit, "The first")
        visit.page.wait_for_selector("#about:has-text('The first models.')")
        visit.page.wait_for_function("document.querySelectorAll('#lane-reference').length === 0")
        visit.page.wait_for_selector("#chart-refusal .main-svg")
        visit.page.fill("#prompt textarea", "tell me a story")
        visit.run(tokens=8)
        assert visit.text("base") == other.text("base")
        for each in (visit, other):
            each.left(address)
