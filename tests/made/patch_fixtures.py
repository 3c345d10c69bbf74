"""Small made patches, and a forger: it rewrites a saved patch and its digests, so that deeper checks are reached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_patches import make_patch, write_sealed

from patchlab.patches import BaseIdentity, Manifest, Patch
from patchlab.records import Measure

BASE = BaseIdentity(id="example/base", revision="main", fingerprint="f" * 16, tokenizer_digest="a" * 64,
                    template_digest="")


@pytest.fixture
def manifest() -> Manifest:
    """A full manifest with P = 3 and D = 8."""
    return Manifest(
        name="toxicity", version="1.0.0", title="Calmer replies", summary="Answers without insults.",
        domain="toxicity", base=BASE, reference="example/reference", length=3, width=8, strength=0.75,
        licence="Apache-2.0", recipe_digest="b" * 64, supersedes=("toxicity@0.9.0",), conflicts=("rude",),
        evidence=(Measure("toxicity", "patched", "toxic_rate", 0.125, 0.08, 0.19, 200, "toxicity@1"),),
    )


@pytest.fixture
def patch(manifest: Manifest) -> Patch:
    return make_patch(manifest)


@pytest.fixture
def place(manifest: Manifest) -> Callable[..., Path]:
    """Saves a patch of a given name and version under a folder."""
    def put(folder: Path, name: str, version: str, *, seed: int = 0) -> Path:
        made = make_patch(replace(manifest, name=name, version=version, supersedes=(), conflicts=()),
                          seed=seed)
        return made.save_pretrained(folder / made.manifest.folder_name)
    return put


@pytest.fixture
def forge() -> Callable[..., None]:
    """Writes files into a saved patch, edits its manifest, and makes every digest right again."""
    def rewrite(folder: Path, files: dict[str, bytes] | None = None,
                edit: Callable[[dict[str, Any]], object] | None = None) -> None:
        for name, data in (files or {}).items():
            (folder / name).write_bytes(data)
        content = json.loads((folder / "patch.json").read_text(encoding="utf-8"))
        content["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
                            for name in sorted(content["files"]) if name != "patch.json"}
        content["files"]["patch.json"] = "0" * 64
        if edit is not None:
            edit(content)
        write_sealed(folder, json.dumps(content))
    return rewrite
