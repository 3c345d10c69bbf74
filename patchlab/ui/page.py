"""The whole page: header, tabs, theme, and how it is served. Nothing comes from another host, nothing is reported."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from patchlab.engine import Sampling
from patchlab.errors import ModelError, PatchLabError
from patchlab.patches import Stack
from patchlab.records import Prompt
from patchlab.scoring.table import load_scorer
from patchlab.ui import compare, copy, session
from patchlab.ui.compare import Compare
from patchlab.ui.diff import escaped
from patchlab.ui.offered import Offered
from patchlab.ui.proxies import no_proxies

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.scoring.table import Scorer

log = logging.getLogger(__name__)
STYLE = Path(__file__).with_name("style.css")
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
VISITORS = 64  # who run at once; the scheduler shares its batch among them
SESSIONS = 512  # visits of which the server keeps what they see; one that switched presets has components of its own

# gradio sums up its queue with pandas after every event, which costs a busy page more than the event; nobody reads it
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")


class Tab(NamedTuple):
    """A tab: its label, and the function that places its components."""

    label: str
    build: Callable[[Lab, Sequence[Scorer], dict[str, Event]], Compare]


TABS: tuple[Tab, ...] = (Tab("Compare", compare.build),)


def theme() -> gr.themes.Base:
    """One accent, quiet greys, system fonts."""
    return gr.themes.Base(
        primary_hue="indigo", neutral_hue="slate", radius_size="lg", text_size="md",
        font=list(SYSTEM_FONTS), font_mono=["ui-monospace", "monospace"],
    ).set(
        body_background_fill="*neutral_50", body_background_fill_dark="#10141d",
        block_background_fill="white", block_background_fill_dark="#181d29",
        block_border_color="*neutral_200", block_border_color_dark="#2b3344",
        border_color_primary="*neutral_200", border_color_primary_dark="#2b3344",
        body_text_color="*neutral_800", body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_500", body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*neutral_600", block_title_text_color="*neutral_700",
        input_border_width="1px", input_border_color="*neutral_300", input_border_color_dark="#3a445a",
        input_background_fill="white", input_background_fill_dark="#10141d",
        button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600", button_primary_text_color="white",
        block_shadow="none", block_shadow_dark="none",
    )


def models_note(lab: Lab) -> str:
    """What the header says of the models: the preset's own words, or the names of base and reference."""
    if lab.about:
        words = {"pocket": copy.POCKET_NOTE, "smollm2": copy.SMOLLM2_NOTE}.get(lab.name, lab.about)
        return words if lab.reference else f"{words} {copy.NO_REFERENCE}"
    beside = copy.REFERENCE_NOTE.format(reference=lab.reference.name) if lab.reference else copy.NO_REFERENCE
    return f"{copy.BASE_NOTE.format(base=lab.base.name)} {beside}"


def head(lab: Lab, notice: str = "") -> str:
    """The page's header as HTML, with what there is to say of the models."""
    more = f'<p class="models">{escaped(notice)}</p>' if notice else ""
    return (f'<header class="page-head"><h1>{copy.TITLE}</h1><p class="lead">{copy.LEAD}</p>'
            f'<p class="models"><strong>About these models.</strong> {escaped(models_note(lab))}</p>{more}</header>')


def build(models: Lab | Offered, *, notice: str = "") -> gr.Blocks:
    """The page for a base, with or without a reference, ready to launch; of several presets a visitor chooses one."""
    offered = models if isinstance(models, Offered) else Offered(models, (), load_nothing)
    signals: dict[str, Event] = {}
    with gr.Blocks(title=copy.TITLE, analytics_enabled=False) as page:
        top = gr.HTML(head(offered.first, notice), apply_default_css=False)
        several = len(offered.titles) > 1
        with gr.Row(elem_classes=["presets"], visible=several):
            chosen = gr.Dropdown([(title, name) for name, title in offered.titles.items()], value=offered.first.name,
                                 label=copy.PRESET_LABEL, elem_id="preset", filterable=False, scale=0, min_width=240)
            line = gr.HTML("", apply_default_css=False, elem_id="preset-status")
        with gr.Column(elem_classes=["tabs-of-preset"]) as opened:
            tabs = _tabs(offered.first, signals)
        page.unload(tabs[0].leave)
        if several:
            _connect(offered, tabs[0], signals, chosen, [line, top, opened, chosen])
    return page.queue(default_concurrency_limit=VISITORS, max_size=VISITORS)


def _tabs(lab: Lab, signals: dict[str, Event]) -> list[Compare]:
    placed, scorers = [], [load_scorer(name) for name in lab.judges.first.values()]
    with gr.Tabs(selected=TABS[0].label):  # named: tabs that are placed later have none selected
        for tab in TABS:
            with gr.Tab(tab.label, id=tab.label):
                placed.append(tab.build(lab, scorers, signals))
    return placed


def _connect(offered: Offered, tab: Compare, signals: dict[str, Event], chosen: gr.Dropdown, outputs: Sequence[Any]) -> None:
    """Let a visitor switch presets: the tabs of the first one are on the page, those of another are placed when it is chosen."""
    line, top, opened, _ = outputs
    shown = gr.State("")  # the name of the placed preset; none until the first switch

    def switch(name: str, before: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        tab.stop(request)
        if not offered.loaded(name):
            yield {line: compare.status(copy.LOADING.format(title=offered.titles[name]))}
        try:
            lab = offered.get(name)
        except PatchLabError as error:
            yield {line: compare.status(copy.sentence(str(error)), problem=True),
                   chosen: gr.update(value=before or offered.first.name)}
            return
        yield {line: "", top: head(lab), opened: gr.update(visible=False), shown: name}

    chosen.select(switch, [chosen, shown], [*outputs, shown], trigger_mode="once", show_progress="hidden",
                  api_visibility="private")

    @gr.render(inputs=shown, triggers=[shown.change], show_progress="hidden")
    def place(name: str) -> None:
        _tabs(offered.get(name), signals)


def load_nothing(name: str) -> Lab:
    """The loader of a page without presets to switch to."""
    raise ModelError(f"preset {name!r}", expected="the models the page was started with", do="start the page with --presets")


def warm_up(lab: Lab) -> None:
    """One short run, so that the first visitor does not wait for what only the first run has to do."""
    scorers = [load_scorer(name) for name in lab.judges.first.values()]
    stack = Stack.parse(",".join(installed.manifest.name for installed in lab.planner.installed()))
    request = session.RunRequest(Prompt("Hello"), stack, Sampling(temperature=0.8, max_new_tokens=4, seed=0))
    try:
        for _ in session.run(lab, scorers, request):
            pass
    except PatchLabError as error:  # a broken patch: a run with it shows the error, all others work
        log.warning("the first run failed: %s", error)


def launch(page: gr.Blocks, *, host: str = "127.0.0.1", port: int | None = None, block: bool = True) -> str:
    """Serve the page and return its address; with `block` this returns when the server is stopped."""
    options: dict[str, Any] = {
        "theme": theme(), "css_paths": STYLE, "state_session_capacity": SESSIONS,
        "footer_links": [], "run_history": False, "share": False,
        "enable_monitoring": False, "ssr_mode": False, "pwa": False, "quiet": not block, "max_threads": VISITORS + 16,
    }
    with no_proxies():  # gradio asks its own server whether it runs, which a proxy cannot tell
        _, address, _ = page.launch(server_name=host, server_port=port, prevent_thread_lock=True, **options)
    if block:
        page.block_thread()
    return address
