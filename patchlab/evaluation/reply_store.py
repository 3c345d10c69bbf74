"""Replies of an evaluation: drawn once, kept row by row, taken up again after a stop.

A reply depends on the models, the stack, the sampling, the prompt and the sample's number and on nothing else, so suites
that ask the same share it, and a run that was stopped goes on from what its file holds.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from patchlab import __version__
from patchlab.engine import Lane, Sampling
from patchlab.engine.lanes import finished
from patchlab.errors import InputError
from patchlab.models import Backbone
from patchlab.records import Message, Progress, Prompt, Reply
from patchlab.storage import read_jsonl, write_json

ROWS = "replies.jsonl"
SETTINGS = "settings.json"
THREADS = "threads"  # recorded, and free to differ when a run goes on: it reaches no more than the last bits of logits

Key = tuple[str, str, int]  # lane, key of the prompt, sample


def made_with(sampling: Sampling, *backbones: Backbone) -> dict[str, str]:
    """What the replies of these models depend on beside stack and prompts; where models differ, one value for each."""
    def each(what: Callable[[Backbone], str]) -> str:
        found = [what(backbone) for backbone in backbones]
        return " and ".join(found if len({*found}) > 1 else found[:1])

    return {
        "patchlab": __version__, "temperature": f"{sampling.temperature:g}", "top_p": f"{sampling.top_p:g}",
        "max_new_tokens": str(sampling.max_new_tokens), "sampling_seed": str(sampling.seed),
        "dtype": each(lambda backbone: str(backbone.dtype).removeprefix("torch.")),
        "bits": each(lambda backbone: str(backbone.bits or "as they are")),
        "template_date": each(lambda backbone: backbone.chat.pinned_date or "none")}


def machine() -> dict[str, str]:
    """The libraries and threads of this process, on which the last bits of logits depend."""
    return {"torch": version("torch"), "transformers": version("transformers"), THREADS: str(torch.get_num_threads())}


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
        # half a surrogate pair has no bytes, but an escape that JSON reads
        self._file = path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n")

    def close(self) -> None:
        """Let go of the file."""
        if self._file:
            self._file.close()
            self._file = None

    def draw(self, lanes: Sequence[Lane], prompts: Sequence[Prompt], samples: int, sampling: Sampling,
             stage: str) -> Generator[Progress, None, list[Reply]]:
        """Draw what is missing; returns the replies of these lanes to all prompts and samples, by lane and row."""
        prompts = list({prompt.key: prompt for prompt in prompts}.values())
        places = [(lane, prompt, k * samples + sample) for lane in lanes for k, prompt in enumerate(prompts)
                  for sample in range(samples)]
        wanted = [_key(lane.name, prompt, row % samples) for lane, prompt, row in places]
        missing = {prompt.key: prompt for key, (_, prompt, _) in zip(wanted, places, strict=True) if key not in self._found}
        done = sum(key in self._found for key in wanted)
        yield Progress(stage, done, len(wanted))
        for reply in finished(lanes, list(missing.values()), samples=samples, sampling=sampling) if missing else ():
            key = _key(reply.lane, reply.prompt, reply.sample)
            if key not in self._found:  # a prompt without all its replies is drawn again as a whole, to the same replies
                self._keep(key, reply)
                done += 1
                yield Progress(stage, done, len(wanted))
        return [replace(self._found[key], prompt=prompt, row=row)
                for key, (_, prompt, row) in zip(wanted, places, strict=True)]

    def _keep(self, key: Key, reply: Reply) -> None:
        self._found[key] = reply
        if self._file:
            self._file.write(json.dumps(dataclasses.asdict(reply), ensure_ascii=False) + "\n")
            self._file.flush()


def _key(lane: str, prompt: Prompt, sample: int) -> Key:
    return lane, prompt.key, sample


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
                  for name in {**before, **settings} if before.get(name) != settings.get(name) and name != THREADS]
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


def _read(row: dict[str, Any], path: Path) -> Reply:
    try:
        asked = row.pop("prompt")
        earlier = tuple(Message(**message) for message in asked.pop("earlier", ()))
        return Reply(prompt=Prompt(**asked, earlier=earlier), **row)
    except (AttributeError, InputError, KeyError, TypeError):
        raise InputError(f"{path} holds a row that is no reply", expected="what an evaluation wrote",
                         do="choose another --out") from None
