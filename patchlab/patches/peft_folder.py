"""Reads the prefix of a folder that PEFT's prompt tuning saved. PEFT itself is not needed."""

from __future__ import annotations

from pathlib import Path

from patchlab.errors import PatchFormatError
from patchlab.patches.folder import CAPS, read_file
from patchlab.patches.manifest import CONFIG_FILE, MAX_LENGTH, MAX_PREFIX_BYTES, MAX_WIDTH, WEIGHTS_FILE
from patchlab.patches.weights import Prefix, decode
from patchlab.validation import parse_object


def read_adapter(folder: Path) -> Prefix:
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
