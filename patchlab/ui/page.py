"""The whole page: header, tabs, theme, and how it is served. Nothing comes from another host, nothing is reported."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import gradio as gr
from starlette.middleware import Middleware

from patchlab.engine import Sampling
from patchlab.errors import ModelError, PatchLabError
from patchlab.patches import Stack
from patchlab.records import Prompt
from patchlab.scoring.table import load_scorer
from patchlab.ui import api, batch, between_tabs, compare, copy, evaluate, patches, repair, session, train, walkthrough
from patchlab.ui.batch.batch_prompts import MAX_BYTES
from patchlab.ui.diff import escaped
from patchlab.ui.offered import Offered
from patchlab.ui.proxies import no_proxies
from patchlab.ui.share.link_codec import parsed
from patchlab.ui.share.link_panel import ADDRESS, LinkPanel
from patchlab.ui.share.link_preview import LinkPreview
from patchlab.ui.status_line import status

if TYPE_CHECKING:
    from patchlab.engine import Lab

log = logging.getLogger(__name__)
STYLE, MARK, *SCRIPTS = (Path(__file__).with_name(name) for name in (
    "style.css", "logo.svg", "stream.js", "page.js", "keep.js", "share.js", "offline.js", "address.js"))
SHARE_MARK = ('<svg viewBox="0 0 24 24" width="16" height="16" aria-hidden="true" fill="none" stroke="currentColor" '
              'stroke-width="2"><path d="M12 15V3m0 0L7.5 7.5M12 3l4.5 4.5M5 12v8h14v-8"/></svg>')
TAB_STYLES = sorted(Path(__file__).parent.glob("*/*.css"))  # each beside the tab it belongs to
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
# The page is as wide as the window before its style sheet is here, and the tabs wait for the bar above them: it would jump else.
STEADY = ("<style>.gradio-container { width: 100% !important; box-sizing: border-box; }"
          "body:not(:has(.brand)) .tabs-of-preset, .tabs-of-preset:not(:has(.tabitem)) { visibility: hidden; }</style>")
VISITORS = 64  # who run at once; the scheduler shares its batch among them
SESSIONS = 512  # visits of which the server keeps what they see; one that switched presets has components of its own

# gradio sums up its queue with pandas after every event, which costs a busy page more than the event; nobody reads it
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")


Permission = Literal["install", "training"]  # what visitors may do to the server's disk, where its operator allows it


class Handlers(Protocol):
    """What a placed tab answers with, besides its components' events."""

    def leave(self, request: gr.Request) -> None:
        """A visitor closed the page or chose another preset: end what runs for them."""
        ...


class Tab(NamedTuple):
    """A tab: its label, and the function that places its components in the open Blocks and connects them.

    The function gets the models, the first scorer of each claim, and the signals of the visitors' runs by gradio's session name;
    of a tab with a `permission` also whether that is `allowed`.
    """

    label: str
    build: Callable[..., Handlers]
    permission: Permission | None = None  # the function is told too whether the server's operator gives it


TABS: tuple[Tab, ...] = (Tab("Compare", compare.build), Tab("Batch", batch.build), Tab("Evaluate", evaluate.build),
                         Tab("Train", train.build, "training"), Tab("Patches", patches.build, "install"),
                         Tab("Repair", repair.build, "training"),
                         Tab("Walkthrough", walkthrough.build))


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


def brand() -> str:
    """The product's name with its mark."""
    return f'<a class="brand" href="." aria-label="{copy.TITLE}">{MARK.read_text(encoding="utf-8")}<span>{copy.TITLE}</span></a>'


def about(lab: Lab, notice: str = "") -> str:
    """What there is to say of the product and the models, folded in, and the switch between light and dark."""
    more = f"<p>{escaped(notice)}</p>" if notice else ""
    return (f'<details class="about"><summary>{copy.ABOUT}</summary><div><h1>{copy.TITLE}</h1><p>{copy.LEAD}</p>'
            f'<p><strong>About these models.</strong> {escaped(copy.models_note(lab))}</p>{more}</div></details>'
            f'<button type="button" id="share" aria-label="{copy.SHARE}">{SHARE_MARK}<span>{copy.SHARE}</span></button>'
            f'<button type="button" id="theme" aria-label="{copy.THEME}" title="{copy.THEME}">◐</button>')


def build(models: Lab | Offered, *, notice: str = "", allowed: Collection[Permission] = ()) -> gr.Blocks:
    """The page for a base, with or without a reference, ready to launch; of several presets a visitor chooses one.

    Visitors write nothing to the server's disk but what `allowed` names, and batches.
    """
    offered = models if isinstance(models, Offered) else Offered(models, (), load_nothing)
    signals: dict[str, Event] = {}
    with gr.Blocks(title=copy.TITLE, analytics_enabled=False, delete_cache=(3600, 86_400)) as page:
        several = len(offered.titles) > 1
        with gr.Row(elem_classes=["page-bar"]):
            gr.HTML(brand(), apply_default_css=False, elem_id="brand", min_width=0)
            chosen = gr.Dropdown([(title, name) for name, title in offered.titles.items()], value=offered.first.name,
                                 label=copy.PRESET_LABEL, elem_id="preset", filterable=False, scale=0, min_width=0,
                                 container=False, interactive=several)
            top = gr.HTML(about(offered.first, notice), apply_default_css=False, elem_id="about", min_width=0)
        line = gr.HTML("", apply_default_css=False, elem_id="preset-status")
        with gr.Column(elem_classes=["tabs-of-preset"]) as opened:
            tabs, link = _tabs(offered, offered.first, signals, allowed)
        between_tabs.connect(tabs, [page.load])
        link.begin(page.load)
        for tab in tabs:
            page.unload(tab.leave)
        api.place(offered)
        if several:
            _connect(page, offered, tabs, lambda lab: _tabs(offered, lab, signals, allowed), chosen, [line, top, opened, chosen])
    return page.queue(default_concurrency_limit=VISITORS, max_size=VISITORS)


def _tabs(offered: Offered, lab: Lab, signals: dict[str, Event],
          allowed: Collection[Permission]) -> tuple[list[Handlers], LinkPanel]:
    placed, scorers = [], [load_scorer(name) for name in lab.judges.first.values()]
    # named: tabs that are placed later have none selected
    with gr.Tabs(selected=TABS[0].label, overflow_behavior="wrap") as tabs:
        for tab in TABS:
            with gr.Tab(tab.label, id=tab.label):
                more = {"allowed": tab.permission in allowed} if tab.permission else {}
                placed.append(tab.build(lab, scorers, signals, **more))
    return placed, LinkPanel(lab, placed, tabs, [tab.label for tab in TABS], offered.titles)


def _connect(page: gr.Blocks, offered: Offered, tabs: Sequence[Handlers],
             place: Callable[[Lab], tuple[list[Handlers], LinkPanel]], chosen: gr.Dropdown, outputs: Sequence[Any]) -> None:
    """Let a visitor or a link switch presets: those of the first are on the page, `place` places those of another when chosen."""
    line, top, opened, _ = outputs
    shown = gr.State("")  # the name of the placed preset; none until the first switch
    linked = gr.State(False)  # whether the address chose it, and so says its settings

    def switch(name: str, before: str, request: gr.Request, by_link: bool = False) -> Iterator[dict[Any, Any]]:
        for tab in tabs:
            tab.leave(request)
        if not offered.loaded(name):
            yield {line: status(copy.LOADING.format(title=offered.titles[name]))}
        try:
            lab = offered.get(name)
        except PatchLabError as error:
            yield {line: status(copy.sentence(str(error)), problem=True),
                   chosen: gr.update(value=before or offered.first.name)}
            return
        yield {line: "", top: about(lab), opened: gr.update(visible=False), shown: name, linked: by_link}

    def follow(address: str, before: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        name = parsed(address or "")[0].preset
        yield {chosen: name} if (other := name in offered.titles and name != offered.first.name) else {line: gr.skip()}
        if other:
            yield from switch(str(name), before, request, by_link=True)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    chosen.select(switch, [chosen, shown], [*outputs, shown, linked], trigger_mode="once", **quiet)
    page.load(follow, [gr.Textbox(visible=False), shown], [*outputs, shown, linked], js=f"() => [{ADDRESS}, null]", **quiet)

    @gr.render(inputs=[shown, linked], triggers=[shown.change], show_progress="hidden")
    def placed(name: str, by_link: bool) -> None:
        others, link = place(offered.get(name))
        between_tabs.connect(others)
        timer = gr.Timer(0.2)  # the event that says that they are there
        timer.tick(lambda: gr.Timer(active=False), None, timer, queue=False, **quiet)
        link.begin(timer.tick, by_link=by_link)


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


def launch(page: gr.Blocks, *, host: str = "127.0.0.1", port: int | None = None, block: bool = True,
           mcp: bool = False, auth: tuple[str, str] | None = None, root_path: str | None = None) -> str:
    """Serve the page and return its address; with `block` this returns when the server is stopped.

    With `mcp` its endpoints are tools of an MCP server too; `auth` is a name and a password that visitors need, `root_path` the
    path under which a reverse proxy shows the page.
    """
    options: dict[str, Any] = {
        "theme": theme(), "css_paths": [STYLE, *TAB_STYLES], "favicon_path": MARK,
        "head": STEADY + "".join(f"<script>{script.read_text(encoding='utf-8')}</script>" for script in SCRIPTS),
        "state_session_capacity": SESSIONS,
        "footer_links": [], "run_history": False, "share": False,
        "app_kwargs": {"middleware": [Middleware(LinkPreview, root_path=root_path or "")]},
        "enable_monitoring": False, "ssr_mode": False, "pwa": False, "quiet": not block, "max_threads": VISITORS + 16,
        "mcp_server": mcp, "auth": auth, "root_path": root_path, "max_file_size": MAX_BYTES,
    }
    with no_proxies():  # gradio asks its own server whether it runs, which a proxy cannot tell
        _, address, _ = page.launch(server_name=host, server_port=port, prevent_thread_lock=True, **options)
    if block:
        page.block_thread()
    return address
