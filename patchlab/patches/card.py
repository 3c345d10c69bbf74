"""The model card of a patch: README.md, rendered from card.md.j2 and the manifest alone, so that the two agree."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from patchlab.patches.manifest import Manifest

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# The Hub knows licences by these ids; any other is "other" with a name.
_HUB_LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
                 "gpl-3.0", "openrail")
# Markdown is not HTML, so nothing is escaped by itself: the template passes text from a manifest through `plain`, which
# escapes what Markdown or HTML would interpret, or through `json`, whose strings are also YAML's and Python's.
_ENVIRONMENT = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=False, undefined=StrictUndefined,
                           trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
_ENVIRONMENT.filters |= {"plain": partial(re.sub, r"([\\`*_\[\]<>|#])", r"\\\1"), "json": partial(json.dumps, ensure_ascii=False)}


def model_card(manifest: Manifest) -> str:
    """The card as Markdown, with YAML front matter for the Hub."""
    licence = manifest.licence.lower()
    return _ENVIRONMENT.get_template("card.md.j2").render(
        manifest=manifest, base=manifest.base, hub_id=_HUB_ID.fullmatch(manifest.base.id),
        licence=licence if licence in _HUB_LICENCES else "")
