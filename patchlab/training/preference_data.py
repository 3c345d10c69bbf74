"""Pairs that somebody already has: a JSON Lines or CSV file, or a data set of the Hub, with prompt, chosen and rejected.

A column may hold text, or turns of a chat ({"role", "content"}), of which the last turn of the right role counts.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from patchlab.errors import InputError, MissingExtraError
from patchlab.records import Kind, Pair, Prompt
from patchlab.storage import read_jsonl
from patchlab.training.config import IMPROVES
from patchlab.training.pair_selection import require_pairs

COLUMNS = ("prompt", "chosen", "rejected")
HUB = "hub:"


def read_pairs(source: str, *, domain: str) -> tuple[list[Pair], Counter[str]]:
    """The pairs of a file, or of `hub:NAME[:SPLIT]`, for a patch of `domain`, with a tally of kept and dropped rows.

    Raises InputError for a file that cannot be read or lacks a column, TrainingError with the tally where no row is kept,
    MissingExtraError for the Hub without `datasets`.
    """
    kind: Kind = "chat" if domain == "refusal" else "continue"
    pairs: list[Pair] = []
    tally: Counter[str] = Counter()
    for number, row in enumerate(_rows(source), 1):
        lacking = [name for name in COLUMNS if row.get(name) is None]
        if lacking:
            raise InputError(f"{source} row {number} has no {' and no '.join(lacking)} (it has {', '.join(map(str, row))[:200]})",
                             expected=f"columns {', '.join(COLUMNS)}", do="rename the columns")
        prompt, chosen, rejected = (_text(row[name], f"{source} row {number} {name}", user=name == "prompt")
                                    for name in COLUMNS)
        reason = "empty prompt" if not prompt else "empty reply" if not (chosen and rejected) else \
            "same reply twice" if chosen == rejected else "kept"
        tally[reason] += 1
        if reason == "kept":
            pairs.append(Pair(Prompt(prompt, _kind(row, kind), IMPROVES.get(domain, (domain,))[0]), chosen, rejected))
    require_pairs(pairs, tally)
    return pairs, tally


def _rows(source: str) -> Iterator[dict[str, Any]]:
    if source.startswith(HUB):
        yield from _hub_rows(source.removeprefix(HUB))
    elif source.lower().endswith(".csv"):
        yield from _csv_rows(Path(source))
    else:
        yield from read_jsonl(Path(source))


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"no file {path}", expected="a CSV file with a header", do="check the path")
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield from csv.DictReader(lines)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not CSV in UTF-8 ({error})", expected="a CSV file with a header",
                         do="convert the file") from None


def _hub_rows(name: str) -> Iterable[dict[str, Any]]:
    name, _, split = name.partition(":")
    try:
        import datasets
    except ImportError:
        raise MissingExtraError(f"no library `datasets`, which reads {HUB}{name}", expected="it installed",
                                do="pip install datasets, or give a JSON Lines or CSV file") from None
    try:
        found: Iterable[dict[str, Any]] = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # a library of many sources raises whatever these raise
        raise InputError(f"data set {name!r} cannot be loaded ({' '.join(str(error).split())[:200]})",
                         expected="a data set of the Hub with that split",
                         do="check the name, the split and the network") from error
    return found


def _text(value: object, where: str, *, user: bool) -> str:
    if isinstance(value, list) and all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in value):
        said = [turn["content"] for turn in value if turn["role"] == ("user" if user else "assistant")]
        value = said[-1] if said else ""
    if not isinstance(value, str):
        raise InputError(f"{where} holds {type(value).__name__}", expected="text or turns of a chat", do="fix that row")
    return value.strip()


def _kind(row: dict[str, Any], usual: Kind) -> Kind:
    kind = row.get("kind") or usual
    if kind not in ("chat", "continue"):
        raise InputError(f"pairs with kind {kind!r}", expected="'chat' or 'continue'", do="fix that row")
    return "chat" if kind == "chat" else "continue"
