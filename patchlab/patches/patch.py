"""A patch in memory, loaded from and saved to a folder that PEFT opens unchanged. Loads no model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from patchlab.errors import PatchFormatError
from patchlab.patches import hub
from patchlab.patches.card import model_card
from patchlab.patches.curve import Curve, decode_curve, encode_curve
from patchlab.patches.folder import CAPS, read_file, read_files, sealed, write_files
from patchlab.patches.gate import Gate, decode_gate, encode_gate
from patchlab.patches.manifest import (
    CARD_FILE,
    CONFIG_FILE,
    CURVE_FILE,
    GATE_FILE,
    MAX_LENGTH,
    MAX_PREFIX_BYTES,
    MAX_WIDTH,
    WEIGHTS_FILE,
    BaseIdentity,
    Manifest,
)
from patchlab.patches.weights import Prefix, decode, encode, frozen_copy
from patchlab.validation import parse_object


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A read-only prefix [P, D] float32 with its manifest and, optionally, a gate and a curve. Equal when all four are.

    `digest` is the sha256 of the prefix's shape and values, also before the first save.
    Raises PatchFormatError when prefix or gate disagree with the manifest.
    """

    manifest: Manifest
    prefix: Prefix
    gate: Gate | None = None
    curve: Curve | None = None
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.manifest.length, self.manifest.width)
        if not isinstance(self.prefix, np.ndarray) or self.prefix.dtype != np.float32 or self.prefix.shape != shape:
            kind = getattr(self.prefix, "dtype", type(self.prefix).__name__)
            raise PatchFormatError(f"a prefix of {kind} {list(getattr(self.prefix, 'shape', ()))}",
                                   expected=f"[P, D] = float32 {list(shape)} (manifest)",
                                   do="convert the prefix or correct the manifest")
        if not np.isfinite(self.prefix).all():
            raise PatchFormatError("a prefix with NaN or infinite numbers", expected="finite numbers only",
                                   do="train again with a lower learning rate")
        if self.gate and len(self.gate.weight) != self.manifest.width:
            raise PatchFormatError(f"a gate of width {len(self.gate.weight)}", expected=f"{self.manifest.width} (manifest)",
                                   do="fit the gate on the patch's own base")
        object.__setattr__(self, "prefix", frozen_copy(self.prefix))
        object.__setattr__(self, "digest", hashlib.sha256(f"{shape}".encode() + self.prefix.tobytes()).hexdigest())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Patch):
            return NotImplemented
        return ((self.manifest, self.digest, self.gate, self.curve)
                == (other.manifest, other.digest, other.gate, other.curve))

    def __hash__(self) -> int:
        return hash((self.manifest, self.digest))

    @classmethod
    def from_pretrained(cls, source: Path | str, *, revision: str | None = None) -> Patch:
        """Load a patch from a folder or, when there is no such folder, from the Hub repository "owner/name".

        Every file is checked before its contents are used. `revision` is a branch, tag or commit of the repository; a Path is
        always a folder. Raises PatchFormatError for anything that is not a patch, TamperedError naming a file whose bytes
        were changed, NotFoundError for a repository that does not exist or cannot be reached.
        """
        if isinstance(source, Path) or Path(source).exists() or not hub.is_repository(source):
            return cls.of_files(*read_files(Path(source)))
        with hub.downloaded(source, revision=revision) as folder:
            return cls.of_files(*read_files(folder))

    @classmethod
    def from_peft(cls, folder: Path | str, *, base: BaseIdentity, name: str, domain: str, version: str = "1.0.0",
                  title: str = "", summary: str = "", reference: str = "none", licence: str = "unknown") -> Patch:
        """Load a prompt-tuning adapter that PEFT saved in `folder` as a patch of `base`.

        The other arguments go into the manifest, since PEFT does not record them; an empty title or summary is filled in.
        Raises PatchFormatError for another kind of adapter, for pickled weights and for an invalid argument.
        """
        prefix = _read_adapter(Path(folder))
        length, width = prefix.shape
        manifest = Manifest(
            name=name, version=version, title=title or name.capitalize(), domain=domain, base=base, reference=reference,
            summary=summary or f"{length} embeddings trained with PEFT's prompt tuning.", length=length, width=width,
            licence=licence)
        return cls(manifest, prefix)

    @classmethod
    def of_files(cls, manifest: Manifest, files: Mapping[str, bytes]) -> Patch:
        """The patch with this manifest in the bytes of its files, by file name. Raises PatchFormatError."""
        gate = decode_gate(files[GATE_FILE], width=manifest.width) if GATE_FILE in files else None
        curve = decode_curve(files[CURVE_FILE]) if CURVE_FILE in files else None
        return cls(manifest, decode(files[WEIGHTS_FILE], length=manifest.length, width=manifest.width), gate, curve)

    def to_files(self, *, card: str | None = None) -> dict[str, bytes]:
        """The bytes of every file, by file name; equal patches give equal bytes. `card` as in `save_pretrained`."""
        unsaved = replace(self.manifest, files={})
        files = {CARD_FILE: (model_card(unsaved) if card is None else card).encode("utf-8"), WEIGHTS_FILE: encode(self.prefix)}
        if self.gate:
            files[GATE_FILE] = encode_gate(self.gate)
        if self.curve:
            files[CURVE_FILE] = encode_curve(self.curve)
        return sealed(unsaved, files)

    def save_pretrained(self, folder: Path | str, *, card: str | None = None) -> Path:
        """Save this patch in `folder`, which holds nothing else, and return the folder.

        `card` replaces the README.md that is otherwise rendered from the manifest. A patch that is already there is replaced
        atomically. Raises InputError when `folder` holds anything but a patch.
        """
        return write_files(Path(folder), self.to_files(card=card))

    def push_to_hub(self, repository: str, *, private: bool | None = None, revision: str | None = None) -> str:
        """Upload this patch to the Hub repository "owner/name" in one commit and return the commit's URL.

        A missing repository is created, `private` or by the account's default; `revision` is a branch, created when
        missing. Raises InputError for a repository that cannot be written.
        """
        return hub.upload(self.to_files(), repository, private=private, revision=revision,
                          message=f"{self.manifest.name} {self.manifest.version}")


def _read_adapter(folder: Path) -> Prefix:
    """The prefix [P, D] of a prompt-tuning adapter, with P and D from its config. Raises PatchFormatError."""
    where = f"{CONFIG_FILE} in {folder}"
    config = parse_object(read_file(folder, CONFIG_FILE, cap=CAPS[CONFIG_FILE]), where=where)
    for key, value in {"peft_type": "PROMPT_TUNING", "num_transformer_submodules": 1}.items():
        if config.get(key) != value:
            raise PatchFormatError(f"{where} has {key} {str(config.get(key))[:80]!r}", expected=repr(value),
                                   do="save an adapter of PEFT's prompt tuning for a causal language model")
    length, width = config.get("num_virtual_tokens"), config.get("token_dim")
    if not (type(length) is int and type(width) is int and 1 <= length <= MAX_LENGTH and 1 <= width <= MAX_WIDTH
            and length * width * 4 <= MAX_PREFIX_BYTES):
        raise PatchFormatError(
            f"{where} has num_virtual_tokens {str(length)[:40]} and token_dim {str(width)[:40]}",
            expected=f"whole numbers up to {MAX_LENGTH} and {MAX_WIDTH}, {MAX_PREFIX_BYTES // 2**20} MiB at most",
            do="save the adapter again with PEFT")
    if (folder / "adapter_model.bin").exists() and not (folder / WEIGHTS_FILE).exists():
        raise PatchFormatError(f"{folder} has pickled weights only", expected=WEIGHTS_FILE,
                               do="save the adapter with safe_serialization=True")
    return decode(read_file(folder, WEIGHTS_FILE, cap=CAPS[WEIGHTS_FILE]), length=length, width=width)
