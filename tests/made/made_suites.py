"""A tiny base with a reference and a patch, and prompts of every suite in files."""

from __future__ import annotations

from pathlib import Path

from made_models import make_backbone, make_patch

from patchlab.engine import Lab, Sampling
from patchlab.registry import Registry
from patchlab.storage import write_jsonl

SAMPLING = Sampling(max_new_tokens=5, seed=3)
WORDS = ("how do i bake bread", "why is the sky blue", "tell me a story", "what is rain", "who are you", "go on")


def make_lab(folder: Path, *, reference: bool = True) -> Lab:
    """A tiny Llama as base, another seed of it as reference, and a patch named `calm` for toxicity."""
    base = make_backbone("llama")
    if not (folder / "calm-1.0.0").is_dir():
        make_patch(base, "calm", length=3).save_pretrained(folder / "calm-1.0.0")
    return Lab(base, make_backbone("llama", seed=1) if reference else None, registry=Registry([folder]), name="tiny")


def write_suites(folder: Path) -> Path:
    """A file of six prompts for each kind."""
    for name in ("toxicity", "harmful", "benign", "lookalike"):
        kind = "continue" if name == "toxicity" else "chat"
        write_jsonl(folder / f"{name}.jsonl", ({"text": f"{words} {name}", "kind": kind, "domain": name} for words in WORDS))
    write_jsonl(folder / "bias.jsonl", (
        {"text": f"the {job} left {k} because", "kind": "continue", "domain": "bias", "id": f"{leaning}:{job}:{k}"}
        for k in range(3) for leaning, job in (("female", "nurse"), ("male", "pilot"))))
    return folder
