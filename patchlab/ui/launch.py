"""The page as a program: `patchlab app`, `python -m patchlab.ui` and `python app.py`.

The default of each option comes from the environment: PATCHLAB_HOST, PATCHLAB_PORT, PATCHLAB_BASE and so on.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from patchlab.errors import MissingExtraError, PatchLabError
from patchlab.ui.proxies import no_proxies


def main(argv: Sequence[str] | None = None) -> None:
    """Load the models, run them once, and serve the page until it is stopped."""
    env = os.environ.get
    parser = argparse.ArgumentParser(description="Compare a model with and without safety patches, in the browser.")
    parser.add_argument("--host", default=env("PATCHLAB_HOST", "127.0.0.1"), help="address to listen on")
    parser.add_argument("--port", type=int, default=env("PATCHLAB_PORT", "7860"), help="port to listen on")
    parser.add_argument("--preset", default=env("PATCHLAB_PRESET"),
                        help="the base and reference to load by name (default: pocket)")
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
    except ModuleNotFoundError as error:
        if error.name not in ("gradio", "plotly"):
            raise
        raise MissingExtraError(f"{error.name} is not installed", expected="the extra [app] for the page",
                                do="pip install 'patchlab[app]'") from None
    lab = load(settings.preset or None, base=settings.base or None, reference=settings.reference or None,
               device=settings.device or None, bits=settings.bits)
    page.warm_up(lab)
    page.launch(page.build(lab), host=settings.host, port=settings.port)
