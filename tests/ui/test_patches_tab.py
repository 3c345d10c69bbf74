"""The Patches tab: cards, verification, installation where it is allowed, profiles; and the story in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from made_models import make_backbone, make_patch
from made_visit import Visit, served
from playwright.sync_api import Browser

from patchlab.engine import Lab
from patchlab.patches import Stack
from patchlab.patches.profile import Profile
from patchlab.registry import Registry
from patchlab.ui import copy, patches
from patchlab.ui.patches import patch_cards, patches_words, profile_list
from patchlab.ui.patches.patches_tab import PatchesTab, checked

pytestmark = pytest.mark.xdist_group("tabs")

SCRIPT = "<img src=x onerror=alert(1)>"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATCHLAB_HOME."""
    monkeypatch.setenv("PATCHLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def own(home: Path) -> Lab:
    """A tiny base with the patch `calm` in two versions, and one of another base, in a home of their own."""
    base, other = make_backbone("llama"), make_backbone("llama", seed=5)
    for backbone, name, version in ((base, "calm", "1.0.0"), (base, "calm", "1.1.0"), (other, "kind", "1.0.0")):
        patch = make_patch(backbone, name, length=3)
        manifest = replace(patch.manifest, version=version, title=f"{name.title()} {SCRIPT}", summary=SCRIPT, licence="CC0-1.0")
        replace(patch, manifest=manifest).save_pretrained(home / "patches" / manifest.folder_name)
    return Lab(base, make_backbone("llama", seed=1), registry=Registry([home / "patches"]), name="tiny")


def packed(folder: Path, at: Path) -> Path:
    return Path(shutil.make_archive(str(at / folder.name), "zip", folder.parent, folder.name))


def new_patch(lab: Lab, place: Path, name: str = "gentle", seed: int = 0, version: str = "1.0.0") -> Path:
    """The folder of a patch for a lab's base, which is not installed."""
    patch = make_patch(lab.base, name, length=3, seed=seed)
    return replace(patch, manifest=replace(patch.manifest, version=version, title=name.title())).save_pretrained(
        place / f"{name}-{version}")


def placed(lab: Lab, *, allowed: bool = True) -> PatchesTab:
    with gr.Blocks(analytics_enabled=False):
        return patches.build(lab, [], allowed=allowed)


def test_cards_group_versions_and_escape_what_manifests_say(own: Lab) -> None:
    page = patch_cards.cards(own)
    assert "<img" not in page and page.count("<article") == 3
    assert page.index("calm-1.1.0") < page.index(patches_words.OLDER.format(count=1)) < page.index('data-patch="calm-1.0.0"')
    assert page.index('data-patch="calm-1.0.0"') < page.index('data-patch="kind-1.0.0"'), "those that fit come first"
    assert page.count(patches_words.FITS) == 2 and page.count(patches_words.OTHER_BASE) == 1
    assert "CC0-1.0" in page and "3 embeddings of width 32" in page and patches_words.GATE_NO in page


def test_shipped_patches_show_their_evidence_with_n_and_interval(lab: Lab) -> None:
    page = patch_cards.cards(lab)
    assert "Harmful requests refused" in page and "<td data-column='Prompts'>600</td>" in page and patches_words.GATE_YES in page
    assert page.index("Fits this model") < page.index("Made for another model"), "those of SmolLM2 come after those of pocket"


def test_verification_reads_the_disk_and_says_what_is_wrong_without_a_path(own: Lab, home: Path) -> None:
    digest = own.registry.find("calm", "1.0.0").manifest.digest
    assert checked(own, digest) == (digest, patches_words.INTACT.format(count=4), True)
    weights = home / "patches" / "calm-1.0.0" / "adapter_model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    found = checked(own, digest)
    assert not found.intact and found.words.startswith("adapter_model.safetensors in calm-1.0.0 was changed")
    page = patch_cards.cards(own, found)
    assert str(home) not in page and "was changed" in page and '<details class="older" open>' in page
    for stranger in ("", "../../etc/passwd", "0" * 64):
        assert checked(own, stranger).words == patches_words.GONE


def test_folders_that_are_no_patches_are_named_without_their_place(own: Lab, home: Path) -> None:
    (home / "patches" / "broken-1.0.0").mkdir()
    (home / "patches" / "broken-1.0.0" / "patch.json").write_text(f"{{{SCRIPT}", encoding="utf-8")
    page = patch_cards.cards(own)
    assert patches_words.BROKEN_TITLE in page and "broken-1.0.0" in page and str(home) not in page and "<img" not in page


def test_an_upload_is_installed_and_errors_say_no_path(own: Lab, home: Path, tmp_path: Path) -> None:
    tab = placed(own)
    assert tab.installing
    upload, line = tab.installing.upload, tab.installing.line
    folder = new_patch(own, tmp_path)
    *_, end = tab.upload({upload: [str(packed(folder, tmp_path))], tab.installed: ()})
    assert patches_words.THEN_FITS in end[line] and end[tab.installed] == ("gentle",) and "Gentle" in end[tab.listed]
    *_, again = tab.upload({upload: [str(each) for each in folder.iterdir()], tab.installed: ("gentle",)})
    assert "installed already" in again[line]
    *_, newer = tab.upload({upload: [str(packed(new_patch(own, tmp_path, version="1.1.0"), tmp_path))], tab.installed: ()})
    assert patches_words.THEN_NEWER in newer[line]
    other = new_patch(own, tmp_path / "other", seed=3)
    for wrong, words in (([], "No file"), ([str(packed(other, tmp_path))], "other contents"),
                         ([str(tmp_path / "nothing.zip")], "cannot be read")):
        *_, end = tab.upload({upload: wrong, tab.installed: ()})
        assert set(end) == {line} and 'role="alert"' in end[line] and words in end[line]
        assert str(tmp_path) not in end[line] and "/tmp" not in end[line]


def test_a_repository_that_is_none_and_a_hub_that_is_away_are_one_line(own: Lab, home: Path) -> None:
    tab = placed(own)
    assert tab.installing
    for name, words in (("", "expected owner/name"), ("../../etc", "expected owner/name"), (SCRIPT, "expected owner/name"),
                        ("owner/name", "the Hub cannot be reached")):
        *_, end = tab.fetch({tab.installing.repository: name, tab.installed: ()})
        assert words in end[tab.installing.line] and "<img" not in end[tab.installing.line]
    assert len(own.registry.list()) == 3


def test_a_full_folder_takes_no_more(own: Lab, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tab = placed(own)
    assert tab.installing
    monkeypatch.setattr("patchlab.ui.patches.patches_tab.MAX_INSTALLED", 3)
    *_, end = tab.upload({tab.installing.upload: [str(packed(new_patch(own, tmp_path), tmp_path))], tab.installed: ()})
    assert "holds 3 patches" in end[tab.installing.line] and not (home / "patches" / "gentle-1.0.0").exists()


def test_without_permission_nothing_that_installs_is_on_the_page(own: Lab) -> None:
    with gr.Blocks(analytics_enabled=False) as blocks:
        tab = patches.build(own, [])
    assert tab.installing is None
    ids = {getattr(block, "elem_id", None) for block in blocks.blocks.values()}
    assert not ids & {"patches-upload", "patches-send", "patches-repository", "patches-ask"}
    assert not [each for each in blocks.fns.values() if each.name in ("upload", "fetch", "_install")]


def test_profiles_are_listed_with_what_they_pin_and_whether_it_holds(own: Lab, home: Path) -> None:
    assert patches_words.PROFILE_COMMAND in profile_list.profiles(own)
    (home / "profiles").mkdir()
    (home / "profiles" / "bad.json").write_text("{", encoding="utf-8")
    manifest = own.registry.find("calm", "1.0.0").manifest
    Profile.of("acme", Stack.parse("calm@1.0.0:0.5"), [manifest], [0.5]).save(home / "profiles" / "acme.json")
    page = profile_list.profiles(own)
    assert "acme" in page and manifest.digest[:12] in page and "strength 0.5" in page and patches_words.HOLDS in page
    assert "bad.json" in page and str(home) not in page
    shutil.rmtree(home / "patches" / "calm-1.0.0")
    assert patches_words.FAILS in profile_list.profiles(own) and str(home) not in profile_list.profiles(own)


@pytest.fixture
def open_page(own: Lab, browser: Browser) -> Iterator[Visit]:
    """A page whose visitors may install."""
    with served(own, allowed=["install"]) as address:
        visit = Visit(browser, address)
        yield visit
        # gradio's own upload field writes this to the console; the upload is complete all the same
        visit.complaints = [each for each in visit.complaints if each != "Method not implemented."]
        visit.left(address)


def test_a_patch_is_verified_installed_and_ticked_in_a_browser(open_page: Visit, own: Lab, tmp_path: Path) -> None:
    visit, page = open_page, open_page.page
    assert page.locator(".patch-slot").count() == 1
    visit.tab("Patches")
    page.click("article[data-patch='calm-1.1.0'] .verify")
    page.wait_for_selector("article[data-patch='calm-1.1.0'] .checked.good:has-text('Intact')")
    assert page.locator("#patches-list img").count() == 0
    page.click("#patches-send")
    page.wait_for_selector("#patches-status [role=alert]:has-text('No file')")
    page.set_input_files("#patches-upload input[type=file]", packed(new_patch(own, tmp_path), tmp_path))
    page.wait_for_selector("#patches-upload :has-text('gentle-1.0.0')")
    page.click("#patches-send")
    page.wait_for_selector("#patches-status:has-text('Installed gentle 1.0.0')")
    page.wait_for_selector("article[data-patch='gentle-1.0.0'] .pill.good")
    visit.shot("patches-installed")
    page.fill("#patches-repository input, #patches-repository textarea", "owner/name")
    page.click("#patches-ask")
    page.wait_for_selector("#patches-status [role=alert]:has-text('Hub cannot be reached')")
    visit.tab("Compare")
    page.wait_for_selector(".patch-slot:has-text('Gentle')")
    boxes = page.locator(".patch-slot input[type=checkbox]")
    assert [boxes.nth(k).is_checked() for k in range(boxes.count())] == [True, True]
    page.fill("#prompt textarea", "what is rain")
    visit.run(tokens=8)
    assert "Gentle" in page.inner_text("#history tbody tr") or "gentle" in page.inner_text("#history tbody tr")
    visit.tab("Batch")
    page.wait_for_selector("#batch-patches:has-text('Gentle')")
    page.reload()
    page.wait_for_selector(".patch-slot:has-text('Gentle')")
    page.wait_for_function("""() => [...document.querySelectorAll('.patch-slot input[type=checkbox]')]
        .map((each) => each.checked).join() === 'true,false'""")  # a later visit decides for itself


@pytest.mark.parametrize(("name", "width", "query"), [("patches-desktop", 1280, ""), ("patches-phone", 390, ""),
                                                       ("patches-dark", 1280, "?__theme=dark")])
def test_the_page_of_a_stranger_lists_and_verifies_only(browser: Browser, address: str, name: str, width: int,
                                                        query: str) -> None:
    visit = Visit(browser, address + query, width=width)
    visit.tab("Patches")
    visit.page.wait_for_selector(".patch-card >> nth=2")
    assert visit.page.locator("#patches-upload, #patches-send, #patches-ask").count() == 0
    assert "--allow-install" in visit.page.inner_text("#patches-install")
    visit.page.click(".verify >> nth=0")
    visit.page.wait_for_selector(".checked.good")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.shot(name)
    visit.left(address)


def test_no_word_is_said_twice() -> None:
    said = [value for key, value in vars(patches_words).items() if key.isupper() and isinstance(value, str)]
    assert len(said) == len(set(said)) and copy.MORE_PATCHES
