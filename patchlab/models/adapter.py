"""Reads a low-rank adapter (LoRA, Hu et al., arXiv 2106.09685) in PEFT's format, for a base that is already loaded.

A folder is treated as hostile: options, names, shapes, sizes and numbers are checked against the base, no pickle is read, and
no pattern of the config runs as a regular expression: the names of the tensors say which layers are adapted.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from patchlab.errors import BaseMismatchError, ModelError
from patchlab.models.backbone import Backbone
from patchlab.models.sources import ADAPTER, ADAPTER_WEIGHTS
from patchlab.storage import json_object, write_atomic

log = logging.getLogger(__name__)

MAX_RANK = 1024
MAX_ALPHA = 2.0**20
MAX_CONFIG, MAX_HEADER, MAX_WEIGHTS = 1 << 20, 1 << 24, 4 << 30  # bytes
PINNED = "base_fingerprint"  # key of the fingerprint in the metadata of the weights, which PEFT ignores
TENSOR = re.compile(r"base_model\.model\.(?P<path>[\w.]+)\.lora_(?P<side>[AB])\.weight", re.ASCII)
NUMBERED = re.compile(r"\.(\d+)\.")
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

READ = {"peft_type", "r", "lora_alpha", "use_rslora", "target_modules", "layers_to_transform", "init_lora_weights", "task_type",
        "base_model_name_or_path"}
# options of training and of storage, which do not change what a trained adapter computes
WITHOUT_EFFECT = {"auto_mapping", "revision", "inference_mode", "lora_dropout", "fan_in_fan_out", "peft_version",
                  "megatron_core", "qalora_group_size"}
# other initialisations change the base's own weights
KEEPS_BASE = (True, False, "gaussian", "eva", "orthogonal")


class LowRank(NamedTuple):
    """The change of one linear layer: `up` @ `down`, with down [r, in] and up [out, r], which contains the scale alpha / r."""

    down: Tensor
    up: Tensor


@dataclass(frozen=True, slots=True)
class Adapter:
    """A low-rank adapter of one base; `layers` holds the changes by the dotted name of the layer. Equal if the digests are.

    `base` is the name that its config gives its base, for readers.
    """

    digest: str
    name: str = field(compare=False)
    base: str = field(compare=False)
    layers: Mapping[str, LowRank] = field(compare=False, repr=False)


def read_adapter(folder: Path, base: Backbone, *, name: str = "") -> Adapter:
    """The adapter in a folder that PEFT has written, on the device and in the dtype of the base.

    Raises BaseMismatchError for one that is pinned to another base, ModelError for any other that cannot be used, naming the
    option, tensor or file.
    """
    name = name or folder.name
    config, data = _read(folder / ADAPTER, MAX_CONFIG, name), _read(folder / ADAPTER_WEIGHTS, MAX_WEIGHTS, name)
    try:
        settings = json_object(config, nan=False)
    except ValueError as error:
        _refuse(name, f"{ADAPTER} {error}", "one JSON object, as PEFT writes it")
    _check_options(name, settings)
    made_for = str(settings.get("base_model_name_or_path") or "an unnamed base")[:120]
    _check_base(name, made_for, _pinned(name, data), base)
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:  # KeyError for a dtype it does not know
        _refuse(name, f"{ADAPTER_WEIGHTS} holds no readable tensors ({str(error)[:120]})", "one complete safetensors file")
    scale = settings["lora_alpha"] / (math.sqrt(settings["r"]) if settings.get("use_rslora") else settings["r"])
    layers = _layers(name, settings, tensors, base, made_for)
    digest = hashlib.sha256(f"{scale!r} {settings['r']} ".encode() + data).hexdigest()
    return Adapter(digest, name, made_for, {path: _placed(layer, base, path, scale) for path, layer in layers.items()})


def pin(folder: Path, base: Backbone) -> None:
    """Write the fingerprint of its base into an adapter's weights, so that it is refused on any other."""
    path = folder / ADAPTER_WEIGHTS
    data = save(load(path.read_bytes()), metadata={"format": "pt", PINNED: base.identity.fingerprint})
    write_atomic(path, lambda temporary: temporary.write_bytes(data))


def _refuse(name: str, found: str, expected: str, *, do: str = "get the adapter again, or merge it into its base") -> NoReturn:
    raise ModelError(f"adapter {name!r} cannot be used ({found})", expected=expected, do=do)


def _read(path: Path, most: int, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        _refuse(name, f"{path.name} cannot be read: {error.strerror}", f"{ADAPTER} and {ADAPTER_WEIGHTS}")
    if len(data) > most:
        _refuse(name, f"{path.name} has over {most} bytes", f"at most {most}")
    return data


def _check_options(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse every option that changes what PEFT computes, and that is not read here."""
    def unless(valid: bool, option: str, expected: str) -> None:
        if not valid:
            _refuse(name, f"its option {option[:80]} is {str(settings.get(option))[:80]!r}", expected)

    unless(settings.get("peft_type") == "LORA", "peft_type", "LORA")
    for option, value in settings.items():
        known = option in READ or option in WITHOUT_EFFECT or (option, value) == ("bias", "none")
        unless(known or not value, option, "a plain LoRA without it")
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    unless(type(rank) is int and 1 <= rank <= MAX_RANK, "r", f"a whole number from 1 to {MAX_RANK}")
    unless(type(alpha) in (int, float) and abs(alpha or 0) <= MAX_ALPHA, "lora_alpha", f"a number up to {MAX_ALPHA:g}")
    unless(settings.get("use_rslora") in (None, True, False), "use_rslora", "true or false")
    unless(settings.get("init_lora_weights", True) in KEEPS_BASE, "init_lora_weights", "one that leaves the base as it is")
    unless(settings.get("task_type") in (None, "CAUSAL_LM"), "task_type", "CAUSAL_LM")
    targets, chosen = settings.get("target_modules"), settings.get("layers_to_transform")
    unless(isinstance(targets, str) or (isinstance(targets, list) and all(type(each) is str for each in targets)),
           "target_modules", "names of layers, or a pattern")
    unless(chosen is None or type(chosen) is int or (isinstance(chosen, list) and all(type(each) is int for each in chosen)),
           "layers_to_transform", "numbers of layers")


def _pinned(name: str, data: bytes) -> str | None:
    """The fingerprint in the metadata of the weights."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(MAX_HEADER, len(data) - 8):
        _refuse(name, f"{ADAPTER_WEIGHTS} has no readable header", "one complete safetensors file")
    try:
        metadata = json_object(data[8:8 + size]).get("__metadata__")
    except ValueError as error:
        _refuse(name, f"the header of {ADAPTER_WEIGHTS} {error}", "one complete safetensors file")
    return metadata.get(PINNED) if isinstance(metadata, dict) else None


def _check_base(name: str, made_for: str, pinned: str | None, base: Backbone) -> None:
    if pinned is not None and pinned not in base.fingerprints:
        raise BaseMismatchError(f"adapter {name!r} was made for base {made_for} with other weights ({str(pinned)[:15]})",
                                expected=f"this base, {base.name} ({base.identity.fingerprint[:15]})",
                                do="load the adapter's base, or an adapter made for this one")
    same = Path(made_for).name.lower() in (base.name.lower(), Path(base.identity.id).name.lower())
    if pinned is None and not same:
        log.warning("adapter %r names %s as its base and is used on %s: that the weights are the same was not checked", name,
                    made_for, base.name)


def _layers(name: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], base: Backbone,
            made_for: str) -> dict[str, LowRank]:
    """The pairs of tensors by layer, each checked against the base's layer."""
    rank, linear = settings["r"], dict(linear_layers(base.model))
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = TENSOR.fullmatch(key)
        if match is None or match["path"] not in linear:
            _refuse(name, f"its tensor {key[:120]!r} belongs to no linear layer of {base.name}",
                    f"a LoRA of the linear layers of {made_for}", do="load the base that it was made for")
        wide, out = linear[match["path"]]
        shape = [rank, wide] if match["side"] == "A" else [out, rank]
        if list(tensor.shape) != shape or tensor.dtype not in FLOATS:
            _refuse(name, f"its tensor {key[:120]!r} is {list(tensor.shape)} of {tensor.dtype}, made for {made_for}",
                    f"{shape} of a float type, as {base.name} needs", do="load the base that it was made for")
        if not bool(tensor.isfinite().all()):
            _refuse(name, f"its tensor {key[:120]!r} has numbers that are NaN or infinite", "finite numbers")
        found.setdefault(match["path"], {})[match["side"]] = tensor
    half = next((path for path, pair in found.items() if len(pair) < 2), None)
    wanted = _targets(settings, linear)
    wrong = sorted(found.keys() ^ wanted) if wanted is not None else []
    if half or wrong or not found:
        _refuse(name, f"its tensors and its target_modules differ at {half or wrong[:1]}", "two tensors for each target")
    return {path: LowRank(pair["A"], pair["B"]) for path, pair in found.items()}


def _targets(settings: Mapping[str, Any], linear: Mapping[str, Any]) -> set[str] | None:
    """The layers that a list of names selects, as PEFT resolves it; None for a pattern, which is not run."""
    names, chosen = settings["target_modules"], settings.get("layers_to_transform")
    if isinstance(names, str):
        return None
    numbers = [chosen] if isinstance(chosen, int) else chosen
    return {path for path in linear if any(path == each or path.endswith(f".{each}") for each in names)
            and (not numbers or int((NUMBERED.findall(path) or [-1])[-1]) in numbers)}


def linear_layers(model: nn.Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """The linear layers of a model, quantised ones too, with in- and out-features."""
    for path, layer in model.named_modules():
        if isinstance(layer, Conv1D):
            yield path, (layer.nx, layer.nf)
        elif hasattr(layer, "in_features") and hasattr(layer, "out_features"):
            yield path, (layer.in_features, layer.out_features)


def _placed(layer: LowRank, base: Backbone, path: str, scale: float) -> LowRank:
    device = next((each.device for each in base.model.get_submodule(path).parameters()), base.device)
    up = layer.up.to(torch.promote_types(layer.up.dtype, torch.float32)) * scale
    # stored transposed, as the product of a single row reads them fastest
    return LowRank(*(each.to(device, base.dtype).t().contiguous().t().requires_grad_(False) for each in (layer.down, up)))
