"""The replies of an evaluation, each generated once and appended to a file, so that a stopped run continues from it.

A reply depends on the models, the stack, the sampling, the prompt and the sample's number and on nothing else, so suites that
contain the same prompt share its replies.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from patchlab import __version__
from patchlab.engine import Lane, Sampling
from patchlab.engine.lanes import finished
from patchlab.errors import InputError
from patchlab.models import Backbone
from patchlab.records import Progress, Prompt, Reply
from patchlab.storage import parse_row, write_json

ROWS = "replies.jsonl"
SETTINGS = "settings.json"
THREADS = "threads"  # recorded, but may differ when a run continues: it changes the last bits of logits only

Key = tuple[str, str, int]  # lane, key of the prompt, sample
_REPLY = TypeAdapter(Reply)


def made_with(sampling: Sampling, *backbones: Backbone) -> dict[str, str]:
    """The settings that replies of these models depend on, beside stack and prompts; several values where models differ."""
    def each(setting: Callable[[Backbone], str]) -> str:
        values = [setting(backbone) for backbone in backbones]
        return " and ".join(values if len({*values}) > 1 else values[:1])

    given = {backbone.chat.default_system for backbone in backbones} - {None}
    return {
        **({"template_system": each(lambda backbone: repr(backbone.chat.default_system))} if given else {}),
        "patchlab": __version__, "temperature": f"{sampling.temperature:g}", "top_p": f"{sampling.top_p:g}",
        "max_new_tokens": str(sampling.max_new_tokens), "sampling_seed": str(sampling.seed),
        "dtype": each(lambda backbone: str(backbone.dtype).removeprefix("torch.")),
        "bits": each(lambda backbone: str(backbone.bits or "as they are")),
        "template_date": each(lambda backbone: backbone.chat.pinned_date or "none")}


def machine() -> dict[str, str]:
    """The library versions and number of threads of this process, on which the last bits of logits depend."""
    return {"torch": version("torch"), "transformers": version("transformers"), THREADS: str(torch.get_num_threads())}


def read_replies(path: Path) -> Iterator[Reply]:
    """The replies in a file of an evaluation; a last line that is not finished is none. Raises InputError for another row."""
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):  # a killed run, or one that is writing it
                return
            row = parse_row(line, f"{path} line {number} ")
            try:
                yield _REPLY.validate_python(row)
            except (ValidationError, InputError):
                raise InputError(f"{path} holds a row that is no reply", expected="rows written by an evaluation",
                                 do="choose another --out") from None


class Replies:
    """The replies so far; with a folder, each is appended to its replies.jsonl as soon as it is finished.

    Raises InputError for a folder that holds replies of other settings.
    """

    def __init__(self, settings: Mapping[str, str], folder: Path | None = None) -> None:
        self._replies: dict[Key, Reply] = {}
        self._file = None
        if folder is None:
            return
        _check_settings(folder, settings)
        path = folder / ROWS
        if path.is_file():
            _drop_unfinished_line(path)
            self._replies = {(reply.lane, reply.prompt.key, reply.sample): reply for reply in read_replies(path)}
        # a lone surrogate has no UTF-8 encoding; its escape sequence is valid JSON
        self._file = path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n")

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
            self._file = None

    def draw(self, lanes: Sequence[Lane], prompts: Sequence[Prompt], samples: int, sampling: Sampling,
             stage: str) -> Generator[Progress, None, list[Reply]]:
        """Generate the missing replies, and return those of these lanes to all prompts and samples, by lane and row."""
        prompts = list({prompt.key: prompt for prompt in prompts}.values())
        places = [(lane.name, prompt, k * samples + sample) for lane in lanes for k, prompt in enumerate(prompts)
                  for sample in range(samples)]
        keys = [(lane, prompt.key, row % samples) for lane, prompt, row in places]
        missing = {prompt.key: prompt for key, (_, prompt, _) in zip(keys, places, strict=True) if key not in self._replies}
        done = sum(key in self._replies for key in keys)
        yield Progress(stage, done, len(keys))
        for reply in finished(lanes, list(missing.values()), samples=samples, sampling=sampling) if missing else ():
            key = reply.lane, reply.prompt.key, reply.sample
            if key not in self._replies:  # a prompt that lacks some replies is generated as a whole, to equal replies
                self._keep(key, reply)
                done += 1
                yield Progress(stage, done, len(keys))
        return [dataclasses.replace(self._replies[key], prompt=prompt, row=row)
                for key, (_, prompt, row) in zip(keys, places, strict=True)]

    def _keep(self, key: Key, reply: Reply) -> None:
        self._replies[key] = reply
        if self._file:
            self._file.write(json.dumps(dataclasses.asdict(reply), ensure_ascii=False) + "\n")
            self._file.flush()


def _check_settings(folder: Path, settings: Mapping[str, str]) -> None:
    """Write the settings into a new folder. Raises InputError for a folder of a run with other settings."""
    path = folder / SETTINGS
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        if not isinstance(before, dict):
            raise InputError(f"{path} is not a JSON object", expected="the settings of an evaluation", do="choose another --out")
        differ = [f"{name} {before.get(name, 'none')!s:.60} and now {settings.get(name, 'none')!s:.60}"
                  for name in {**before, **settings} if before.get(name) != settings.get(name) and name != THREADS]
        if differ:
            raise InputError(f"{folder} holds an evaluation with {'; '.join(differ)}",
                             expected="the same settings, to continue it", do="repeat them, or choose another --out")
    elif (folder / ROWS).is_file():
        raise InputError(f"{folder} holds replies without their settings", expected="a folder of an evaluation, or a new one",
                         do="choose another --out")
    else:
        write_json(path, dict(settings))


def _drop_unfinished_line(path: Path) -> None:
    """Remove a last line that a killed run did not finish."""
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        with path.open("rb+") as file:
            file.truncate(data.rfind(b"\n") + 1)
