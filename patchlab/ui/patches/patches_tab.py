"""The Patches tab: cards of what is installed, verification, installation where the server's operator allows it, and profiles.

A visitor names a patch by its digest and never by a path, and no word on the page says where anything lies on the server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import gradio as gr

from patchlab.errors import BusyError, InputError, PatchLabError
from patchlab.patches import Patch, hub
from patchlab.registry import install
from patchlab.registry.index import PATCHES, home_folder
from patchlab.ui import between_tabs, copy
from patchlab.ui.diff import coded
from patchlab.ui.patches import patch_cards, patches_words, profile_list
from patchlab.ui.patches.patch_cards import Checked, without_paths
from patchlab.ui.patches.uploaded_patch import SUFFIXES, unpacked
from patchlab.ui.status_line import status

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.registry import Installed
    from patchlab.scoring.table import Scorer

log = logging.getLogger(__name__)
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
Updates = dict[Any, Any]
MAX_INSTALLED = 300  # patches in the server's folder, after which a page installs no more

VERIFYING = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('.verify');
  if (button) trigger('click', {digest: button.dataset.digest});
});
"""


@dataclass(frozen=True, slots=True)
class Installing:
    """The components that install, where the operator allows it."""

    upload: gr.File
    send: gr.Button
    repository: gr.Textbox
    ask: gr.Button
    line: gr.HTML


def build(lab: Lab, scorers: Sequence[Scorer], signals: dict[str, Event] | None = None, *, allowed: bool = False) -> PatchesTab:
    """Place the tab's components in the open Blocks, connect them, and give back their handlers.

    Visitors may install patches where it is `allowed`.
    """
    installed = gr.State(())
    gr.HTML(f'<h2>{patches_words.TITLE}</h2><p class="note">{patches_words.NOTE}</p>', apply_default_css=False)
    listed = gr.HTML(patch_cards.cards(lab), apply_default_css=False, elem_id="patches-list", js_on_load=VERIFYING)
    gr.HTML(f'<h2>{patches_words.INSTALL_TITLE}</h2>' + _explained(allowed), apply_default_css=False, elem_id="patches-install")
    installing = _installing() if allowed else None
    gr.HTML(f'<h2>{patches_words.PROFILES_TITLE}</h2><p class="note">{coded(patches_words.PROFILES_NOTE)}</p>',
            apply_default_css=False)
    pinned = gr.HTML(profile_list.profiles(lab), apply_default_css=False, elem_id="patches-profiles")
    tab = PatchesTab(lab, installed, listed, pinned, installing)
    tab.connect()
    return tab


def _installing() -> Installing:
    with gr.Row(elem_classes=["patches-install"]):
        with gr.Column(min_width=260):
            upload = gr.File(label=patches_words.UPLOAD_LABEL, file_count="multiple", file_types=[*SUFFIXES], type="filepath",
                             elem_id="patches-upload", height=168, interactive=True)
            send = gr.Button(patches_words.UPLOAD, variant="primary", elem_id="patches-send")
        with gr.Column(min_width=260):
            repository = gr.Textbox(label=patches_words.HUB_LABEL, placeholder=patches_words.HUB_PLACEHOLDER, max_lines=1,
                                    elem_id="patches-repository", interactive=True)
            ask = gr.Button(patches_words.HUB, elem_id="patches-ask")
    line = gr.HTML(status(patches_words.READY), apply_default_css=False, elem_id="patches-status")
    return Installing(upload, send, repository, ask, line)


def _explained(allowed: bool) -> str:
    """What installing does, or who can do it."""
    if allowed:
        return f'<p class="note">{coded(patches_words.INSTALL_NOTE)}</p>'
    return f'<p class="note">{coded(patches_words.NOT_ALLOWED)} <code>{patches_words.COMMAND}</code></p>'


class PatchesTab:
    """The tab's handlers: plain methods from component values to component values."""

    def __init__(self, lab: Lab, installed: gr.State, listed: gr.HTML, pinned: gr.HTML, installing: Installing | None) -> None:
        self.lab, self.installed, self.listed, self.pinned, self.installing = lab, installed, listed, pinned, installing

    def connect(self) -> None:
        """Let the components call the handlers."""
        self.listed.click(self.verify, None, self.listed, **QUIET)
        if self.installing:
            i = self.installing
            outputs = [i.line, self.listed, self.pinned, self.installed, i.upload]
            i.send.click(self.upload, {i.upload, self.installed}, outputs, concurrency_limit=2, **QUIET)
            gr.on([i.ask.click, i.repository.submit], self.fetch, {i.repository, self.installed}, outputs, concurrency_limit=2,
                  **QUIET)

    def join(self, tabs: Sequence[object], opening: Sequence[Any]) -> None:
        """Read the lists again when a page is opened, and when another tab has installed a patch."""
        others = [state.change for state in between_tabs.installing(tabs) if state is not self.installed]
        if events := [*opening, *others]:
            gr.on(events, self.lists, None, [self.listed, self.pinned], queue=False, **QUIET)

    def leave(self, request: gr.Request) -> None:
        """A visitor closed the page or chose another preset: nothing of theirs runs here."""

    def lists(self) -> list[str]:
        """Cards and profiles as they are now."""
        return [patch_cards.cards(self.lab), profile_list.profiles(self.lab)]

    def verify(self, event: gr.EventData) -> str:
        """Read all files of a patch, compute their digests, and say on its card what was found."""
        digest = str(event._data.get("digest", "") if isinstance(event._data, Mapping) else "")
        return patch_cards.cards(self.lab, checked(self.lab, digest))

    def upload(self, values: Mapping[Any, Any]) -> Iterator[Updates]:
        """Install what was uploaded."""
        assert self.installing
        paths = [Path(each) for each in values[self.installing.upload] or ()]
        yield from self._install(patches_words.READING, lambda: unpacked(paths), values)

    def fetch(self, values: Mapping[Any, Any]) -> Iterator[Updates]:
        """Install the patch in a repository of the Hub."""
        assert self.installing
        name = str(values[self.installing.repository] or "").strip().removeprefix("https://huggingface.co/")
        yield from self._install(patches_words.ASKING_HUB, lambda: repository(name), values)

    def _install(self, waiting: str, source: Callable[[], AbstractContextManager[Path]],
                 values: Mapping[Any, Any]) -> Iterator[Updates]:
        """Install the folder of `source` and say what is there then; an error is one line and installs nothing."""
        assert self.installing
        line, folder = self.installing.line, Path("/upload")
        yield {line: status(waiting)}
        try:
            room()
            before = {each.manifest.digest for each in self.lab.registry.list()}
            with source() as folder:
                found = install(folder, home_folder())
        except PatchLabError as error:
            words = without_paths(str(error), [folder, home_folder() / PATCHES / "x"])
            yield {line: status(copy.sentence(words), problem=True)}
            return
        except Exception:  # the page outlives any upload
            log.exception("a patch could not be installed")
            yield {line: status(patches_words.UNEXPECTED, problem=True)}
            return
        cards, profiles = self.lists()
        yield {line: status(self.said(found, before)), self.listed: cards, self.pinned: profiles, self.installing.upload: None,
               self.installed: (*values[self.installed], found.manifest.name)}

    def said(self, found: Installed, before: set[str]) -> str:
        """What was installed, and what follows from it."""
        m = found.manifest
        if m.digest in before:
            return patches_words.ALREADY.format(name=m.name, version=m.version)
        if not self.lab.base.same_base(m.base):
            then = patches_words.THEN_OTHER.format(base=m.base.id)
        elif self.lab.planner.find(m.name).manifest.version != m.version:
            then = patches_words.THEN_OLDER
        else:
            others = [each for each in self.lab.registry.list() if each.manifest.name == m.name
                      and self.lab.base.same_base(each.manifest.base)]
            then = patches_words.THEN_NEWER if len(others) > 1 else patches_words.THEN_FITS
        return patches_words.INSTALLED.format(name=m.name, version=m.version, then=then)


def room() -> None:
    """Raise BusyError where the server's folder of patches is full."""
    folder = home_folder() / PATCHES
    count = sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
    if count >= MAX_INSTALLED:
        raise BusyError(patches_words.FULL.format(count=count), expected=f"less than {MAX_INSTALLED}",
                        do="ask whoever runs the server to remove some")


def repository(name: str) -> AbstractContextManager[Path]:
    """The files of a repository of the Hub in a temporary folder. Raises InputError for what is no repository, NotFoundError."""
    if not hub.is_repository(name):
        raise InputError(patches_words.NOT_A_REPOSITORY.format(name=repr(name[:80])), expected="owner/name",
                         do="copy it from the patch's page on the Hub")
    return hub.downloaded(name, revision=None)


def checked(lab: Lab, digest: str) -> Checked:
    """Whether the files of the installed patch with this digest are those of its manifest, read from the disk."""
    found = next((each for each in lab.registry.list() if each.manifest.digest == digest), None)
    if found is None:
        return Checked(digest, patches_words.GONE, False)
    try:
        manifest = Patch.from_pretrained(found.folder).manifest
    except PatchLabError as error:
        return Checked(digest, without_paths(str(error), [found.folder]), False)
    return Checked(digest, patches_words.INTACT.format(count=len(manifest.files)), True)
