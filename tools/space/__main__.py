"""`python -m tools.space DIR` makes the folder of a Hugging Face Space that shows the page, ready to upload."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from patchlab.cli.shell import run
from patchlab.errors import InputError

PROGRAM = "python -m tools.space"
HOME = Path(__file__).parents[2]
NEEDED = "app.py", "requirements.txt", "pyproject.toml", "patchlab", "assets"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")
# the Hub keeps large files elsewhere only where a folder says so; an upload by `hf` does it by itself, a push by git does not
ATTRIBUTES = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.npz filter=lfs diff=lfs merge=lfs -text\n"
CARD = """---
title: PatchLab
emoji: 🩹
colorFrom: indigo
colorTo: green
sdk: gradio
sdk_version: {gradio}
python_version: "3.11"
app_file: app.py
pinned: false
short_description: Safety patches for language models, side by side
preload_from_hub:
  - {weights}
---

# PatchLab

One prompt, answered by a small open model without a safety patch, with it, and by a safer release of the model. A patch is a few
learned embeddings in front of the prompt; no weight of the model changes. Everything runs on this Space's processor: no GPU and
no token is needed. The replies of the unpatched model can be harmful or rude.
"""


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    top = argparse.ArgumentParser(prog=PROGRAM, allow_abbrev=False, description=(__doc__ or "").splitlines()[0])
    top.add_argument("out", type=Path, metavar="DIR", help="the folder to make; it must not exist, or be empty")
    top.set_defaults(run=_make)
    return top


def _make(args: argparse.Namespace) -> None:
    space(args.out)
    print(f"{args.out}\nupload it: hf upload OWNER/NAME {args.out} . --repo-type space")


def space(out: Path) -> Path:
    """Copy what the page needs into `out`, with the card that tells Spaces how to run it. Raises InputError for a full folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty", expected="a new folder", do="choose another, or empty it")
    out.mkdir(parents=True, exist_ok=True)
    for name in NEEDED:
        source = HOME / name
        if source.is_dir():
            shutil.copytree(source, out / name, ignore=LEFT_OUT)
        else:
            shutil.copyfile(source, out / name)
    (out / "README.md").write_text(card(), encoding="utf-8")
    (out / ".gitattributes").write_text(ATTRIBUTES, encoding="utf-8")
    return out


def card() -> str:
    """The Space's README: its front matter names the version of gradio that the requirements pin."""
    from patchlab.models.open_weights import SMOLLM2

    [gradio] = re.findall(r"^gradio==(\S+)$", (HOME / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    return CARD.format(gradio=gradio, weights=f"{SMOLLM2.repository} {SMOLLM2.file}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    return run(parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
