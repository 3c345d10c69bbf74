"""The walkthrough as data, and as one HTML page that needs no other file."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, ValidationError

from patchlab.errors import InputError

TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Said(_Record):
    """One lane's recorded reply, with its verdict in words and the verdict's tone: good, bad or unclear."""

    lane: str
    text: str
    verdict: str = ""
    tone: str = "unclear"
    note: str = ""


class RecordedRun(_Record):
    """One prompt and what the lanes said; `earlier` is what had been said before, user first."""

    asked: str
    said: tuple[Said, ...]
    kind: str = "chat"
    earlier: tuple[str, ...] = ()

    @property
    def link(self) -> str:
        """The address, relative to the page's, that asks this prompt live."""
        return "?" + urlencode({"ask": self.asked, "kind": self.kind})


class Step(_Record):
    """One idea: a headline, two or three sentences, recorded exchanges, figures, and notes for whoever presents."""

    title: str
    text: str
    notes: str
    exchanges: tuple[RecordedRun, ...] = ()
    figures: tuple[tuple[str, str], ...] = ()  # a number and what it says
    picture: str = ""  # the name of a drawing in the template


class Walkthrough(_Record):
    """All steps, and what they were recorded with."""

    model: str
    recorded: str
    commit: str
    patches: dict[str, str]
    steps: tuple[Step, ...]


def read_walkthrough(path: Path) -> Walkthrough:
    """A recorded walkthrough. Raises InputError for a file that is none."""
    try:
        return Walkthrough.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"{path} ({str(error).splitlines()[0]})", expected="a recorded walkthrough",
                         do="record it: python -m tools.walkthrough") from error


def rendered(walkthrough: Walkthrough, *, live: bool) -> str:
    """One HTML page with everything in it; with `live` it links to the page that it is shown in."""
    return TEMPLATES.get_template("slides.html.j2").render(walkthrough=walkthrough, live=live)
