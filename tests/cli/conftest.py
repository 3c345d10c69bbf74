"""A made preset in a folder of its own, so that verbs run with real parts and no shipped model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from patchlab.patches import Manifest, Patch
from patchlab.storage import write_jsonl

WORDS = ("how do i bake bread", "you are kind and calm", "the nurse said that she was late",
         "tell me a story about rain", "mix flour and water and wait", "i like the red house",
         "why is the sky blue today", "nobody should shout at people")


@pytest.fixture(scope="session")
def made_assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An assets folder: pocket/base and pocket/reference 32 wide, suites of a few prompts each."""
    import torch

    from tools.pocket.language_model import Size, new_model, save_model
    from tools.pocket.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("assets")
    tokenizer = train_tokenizer(list(WORDS) * 4, size=400)
    size = Size(width=32, layers=2, heads=2)
    for seed, lane in enumerate(("base", "reference")):
        model = new_model(size, vocabulary=len(tokenizer), seed=seed)
        with torch.no_grad():  # fresh weights are so small that nothing a prompt says reaches the next token
            for weight in model.parameters():
                weight.mul_(6 if weight.dim() > 1 else 1)
        save_model(model, tokenizer, folder / "pocket" / lane)
    suites = folder / "suites" / "pocket"
    for name in ("toxicity", "bias", "harmful", "benign", "lookalike"):
        write_jsonl(suites / f"{name}.jsonl", ({"text": words, "kind": "chat", "domain": name} for words in WORDS[:3]))
    write_jsonl(suites / "train.jsonl", ({"text": words, "kind": "chat", "domain": ("toxicity", "benign")[at % 2]}
                                         for at, words in enumerate(WORDS)))
    return folder


@pytest.fixture
def pocket(made_assets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The made assets in place of the shipped ones, for verbs run inside this process."""
    from patchlab.evaluation import suites
    from patchlab.models import presets

    monkeypatch.setattr(presets, "ASSETS", made_assets)
    monkeypatch.setattr(suites, "FOLDER", made_assets / "suites")
    return made_assets


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for what a test installs."""
    monkeypatch.setenv("PATCHLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def calm(made_assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a made patch `calm` 1.0.0, P = 4, that fits the made base."""
    from patchlab.models import load_backbone

    base = load_backbone(made_assets / "pocket" / "base", device="cpu")
    manifest = Manifest(name="calm", version="1.0.0", title="Calmer replies", summary="Answers without insults.",
                        domain="toxicity", base=base.identity, reference="reference", length=4, width=32,
                        licence="Apache-2.0")
    prefix = np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)
    return Patch(manifest, prefix).save_pretrained(tmp_path_factory.mktemp("patches") / manifest.folder_name)


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., Path]:
    """Writes objects as a JSON Lines file and returns its path."""
    def put(*found: dict[str, object], name: str = "rows.jsonl") -> Path:
        write_jsonl(tmp_path / name, found)
        return tmp_path / name
    return put
