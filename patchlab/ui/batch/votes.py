"""Which reply to a prompt a visitor calls the better one: a vote a prompt, kept in a file beside the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from patchlab.storage import json_object, write_json
from patchlab.ui.batch.batch_table import PromptRow, ballot

VOTES_FILE = "votes.json"


def read_votes(folder: Path) -> dict[str, str]:
    """The votes in a batch's folder: for the ballots of prompts a lane, or NEITHER."""
    path = folder / VOTES_FILE
    return {name: str(choice) for name, choice in json_object(path.read_bytes()).items()} if path.is_file() else {}


def write_vote(folder: Path, name: str, choice: str) -> None:
    """Keep a vote, in place of an earlier one on the same ballot."""
    write_json(folder / VOTES_FILE, {**read_votes(folder), name: choice})


def voted(rows: Sequence[PromptRow], votes: Mapping[str, str]) -> tuple[PromptRow, ...]:
    """The rows with the vote on each."""
    return tuple(replace(row, vote=votes.get(ballot(row.prompt), "")) for row in rows)
