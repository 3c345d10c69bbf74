"""Replies of an evaluation: drawn once, kept row by row, taken up again after a stop.

A reply depends on the models, the stack, the sampling, the prompt and the sample's number and on nothing else, so suites
that ask the same share it, and a run that was stopped goes on from what its file holds.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from patchlab.engine import Lane, Sampling
from patchlab.engine.lanes import finished
from patchlab.errors import InputError
from patchlab.records import Progress, Prompt, Reply
from patchlab.storage import read_jsonl, write_json

ROWS = "replies.jsonl"
SETTINGS = "settings.json"

Key = tuple[str, str, str, int]  # lane, kind and text of the prompt, sample


class Replies:
    """The replies so far; with a folder, each is appended to its replies.jsonl the moment it is finished."""

    def __init__(self, settings: Mapping[str, str], folder: Path | None = None) -> None:
        self._found: dict[Key, Reply] = {}
        self._file = None
        if folder is None:
            return
        _check_settings(folder, settings)
        path = folder / ROWS
        _cut_half_a_line(path)
        for row in read_jsonl(path) if path.is_file() else ():
            reply = _read(row, path)
            self._found[_key(reply.lane, reply.prompt, reply.sample)] = reply
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def close(self) -> None:
        """Let go of the file."""
        if self._file:
            self._file.close()
            self._file = None

    def draw(self, lanes: Sequence[Lane], prompts: Sequence[Prompt], samples: int, sampling: Sampling,
             stage: str) -> Generator[Progress, None, list[Reply]]:
        """Draw what is missing; returns the replies of these lanes to all prompts and samples, by lane and row."""
        prompts = list({prompt.text: prompt for prompt in prompts}.values())
        wanted = [_key(lane.name, prompt, sample) for lane in lanes for prompt in prompts for sample in range(samples)]
        missing = [prompt for prompt in prompts if any(
            _key(lane.name, prompt, sample) not in self._found for lane in lanes for sample in range(samples))]
        done = sum(key in self._found for key in wanted)
        yield Progress(stage, done, len(wanted))
        for reply in finished(lanes, missing, samples=samples, sampling=sampling):
            key = _key(reply.lane, reply.prompt, reply.sample)
            if key not in self._found:  # a batch is drawn again as a whole, to the same replies
                self._keep(key, reply)
                done += 1
                yield Progress(stage, done, len(wanted))
        places = [(prompt, k * samples + sample) for _ in lanes for k, prompt in enumerate(prompts)
                  for sample in range(samples)]
        return [replace(self._found[key], prompt=prompt, row=row)
                for key, (prompt, row) in zip(wanted, places, strict=True)]

    def _keep(self, key: Key, reply: Reply) -> None:
        self._found[key] = reply
        if self._file:
            row = json.dumps(dataclasses.asdict(reply), ensure_ascii=False) + "\n"
            self._file.write(row.encode("utf-8", "replace").decode("utf-8"))  # half a surrogate pair has no bytes
            self._file.flush()


def _key(lane: str, prompt: Prompt, sample: int) -> Key:
    return lane, prompt.kind, prompt.text.encode("utf-8", "replace").decode("utf-8"), sample


def _check_settings(folder: Path, settings: Mapping[str, str]) -> None:
    """Write the settings into a new folder. Raises InputError where it holds a run with others."""
    path = folder / SETTINGS
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        if not isinstance(before, dict):
            raise InputError(f"{path} is not an object of JSON", expected="the settings of an evaluation",
                             do="choose another --out")
        differ = [f"{name} {before.get(name, 'none')!s:.60} and now {settings.get(name, 'none')!s:.60}"
                  for name in {**before, **settings} if before.get(name) != settings.get(name)]
        if differ:
            raise InputError(f"{folder} holds an evaluation with {'; '.join(differ)}", expected="the same settings, to go on",
                             do="repeat them, or choose another --out")
    elif (folder / ROWS).is_file():
        raise InputError(f"{folder} holds replies without their settings", expected="a folder of an evaluation, or a new one",
                         do="choose another --out")
    else:
        write_json(path, dict(settings))


def _cut_half_a_line(path: Path) -> None:
    """Take away a last line that a killed run left unfinished."""
    if not path.is_file():
        return
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        with path.open("rb+") as file:
            file.truncate(data.rfind(b"\n") + 1)


def _read(row: dict[str, object], path: Path) -> Reply:
    try:
        prompt = Prompt(**row.pop("prompt"))  # type: ignore[arg-type]
        return Reply(prompt=prompt, **row)  # type: ignore[arg-type]
    except (KeyError, TypeError):
        raise InputError(f"{path} holds a row that is no reply", expected="what an evaluation wrote",
                         do="choose another --out") from None
