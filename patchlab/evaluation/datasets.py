"""Rows of public data sets as prompts: which columns each set must have, and how a row is asked.

Only the formats are here; the data are not part of PatchLab. A column has the name it has in the published files, whatever its
case, spaces and underscores, or one of the other names that the set is passed on with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from patchlab.errors import InputError
from patchlab.records import Prompt

Row = Mapping[str, Any]
ID = ("id", "behavior_id", "sentid", "index", "name")


@dataclass(frozen=True, slots=True)
class Format:
    """How rows of a published set are asked.

    `columns` are those that a row must have, each with its other names; `marks` those by which a file is known to be of this
    set; `read` gives the prompts of a row, none for one that is not asked.
    """

    columns: tuple[tuple[str, ...], ...]
    marks: tuple[tuple[str, ...], ...]
    read: Callable[[Row], list[Prompt]]


def public_prompts(name: str, row: Row) -> list[Prompt]:
    """The prompts of a row of the set `name`. Raises InputError for a row that lacks a column or holds another value."""
    layout = FORMATS[name]
    found: list[Prompt] = []
    for each in _unfolded(row):
        plain = {_key(column): value for column, value in each.items()}
        missing = [names[0] for names in layout.columns if _first(plain, names) is None]
        if missing:
            other = likeliest(each)
            hint = f"give it as the suite {other}, whose columns these are" if other not in (None, name) else \
                f"add or rename {', '.join(missing)}"
            raise InputError(f"columns {', '.join(map(str, each))[:200] or 'none'}", do=hint,
                             expected=f"those of {name}: {', '.join(names[0] for names in layout.columns)}")
        found += layout.read(plain)
    return found


def likeliest(row: Row) -> str | None:
    """The public set that a row's columns are those of, None where they fit none or could be of any."""
    plain = {_key(column): value for each in _unfolded(row) for column, value in each.items()}
    fitting = [name for name, layout in FORMATS.items() if all(_first(plain, names) is not None for names in layout.marks)]
    return max(fitting, key=lambda name: len(FORMATS[name].marks), default=None)


def _key(column: object) -> str:
    return "".join(c for c in str(column).lower() if c.isalnum())


def _unfolded(row: Row) -> Iterator[Row]:
    """The row, or where it is a whole file of BOLD (group, name, prompts) one for each name."""
    if row and all(isinstance(names, Mapping) and all(isinstance(each, list) for each in names.values())
                   for names in row.values()):
        yield from ({"category": group, "name": name, "prompts": prompts}
                    for group, names in row.items() for name, prompts in names.items())
    else:
        yield row


def _first(row: Row, names: tuple[str, ...]) -> Any:
    return next((row[key] for key in map(_key, names) if row.get(key) is not None), None)


def _text(row: Row, *names: str) -> str:
    """The text in the first of these columns. Raises InputError for none."""
    value = _first(row, names)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{names[0]} {str(value)[:40]!r}", expected="a text", do="fix that row")
    return value


def _word(row: Row, *names: str) -> str:
    value = _first(row, names)
    return "" if value is None or isinstance(value, (Mapping, list)) else str(value)


def _requests(*names: str, domain: str = "", by: tuple[str, ...] = ()) -> Callable[[Row], list[Prompt]]:
    """Reads a request as it is; its domain is that of the set, or a column of it."""
    return lambda row: [Prompt(_text(row, *names), "chat", domain or _word(row, *by), _word(row, *ID))]


def _realtoxicityprompts(row: Row) -> list[Prompt]:
    """The beginning of a sentence; `prompt` is text, or an object with `text` as on the Hub."""
    text = _text(row["prompt"] if isinstance(row["prompt"], Mapping) else {"text": row["prompt"]}, "text")
    if text.startswith(('{"text":', "{'text':")):
        raise InputError("a prompt that is an object written as text", expected="its text", do="give the set as JSON or Parquet")
    return [Prompt(text, "continue", _word(row, "bucket"), _word(row, *ID))]


def _xstest(row: Row) -> list[Prompt]:
    """A request, by its label: safe ones are to be answered, unsafe ones to be refused. The types of these are contrast_..."""
    label = _word(row, "label") or ("unsafe" if _word(row, "type").startswith("contrast") else "safe")
    if label not in ("safe", "unsafe"):
        raise InputError(f"label {label[:40]!r}", expected="safe or unsafe", do="give the file with the prompts")
    return [Prompt(_text(row, "prompt"), "chat", label, _word(row, *ID))]


def _harmbench(row: Row) -> list[Prompt]:
    """A behaviour, behind its context where it has one. Copyright is a different kind of harm."""
    kind, context = _word(row, "functional_category"), _word(row, "context_string", "context").strip()
    text = _text(row, "prompt", "behavior")
    asked = [Prompt(f"{context}\n\n---\n\n{text}" if context else text, "chat", kind, _word(row, *ID))]
    return [] if kind == "copyright" else asked


def _winogender(row: Row) -> list[Prompt]:
    """A sentence up to its pronoun "he", where that stands for the occupation; id LEANING:OCCUPATION:ID.

    The published files name occupation, participant, answer (0 is the occupation) and gender in the sentence's id only. The
    stereotype is what the statistics say: the gender that more than half of the occupation has.
    """
    occupation, _, answer, gender, *_ = [*_word(row, "sentid").split("."), "", "", "", ""]
    occupation, gender = _word(row, "occupation") or occupation, _word(row, "pronoun_gender", "gender") or gender
    answer = _word(row, "answer") or {"0": "occupation"}.get(answer, answer)
    before, *after = _HE.split(_text(row, "sentence"), maxsplit=1)
    if not after or gender != "male" or answer != "occupation":
        return []
    leaning = "female" if _women(occupation, _first(row, ("bls_pct_female",))) > 50 else "male"
    return [Prompt(before.rstrip(), "continue", "bias", f"{leaning}:{occupation}:{_word(row, *ID)}")]


def _women(occupation: str, given: object) -> float:
    """The share of women in an occupation, in percent: the row's, else which side of a half the published statistics say."""
    try:
        if given is not None:
            return float(str(given))
    except ValueError:
        pass
    if given is not None or occupation not in f"{_MOSTLY_WOMEN} {_MOSTLY_MEN}".split():
        raise InputError(f"occupation {occupation[:40]!r} with bls_pct_female {str(given)[:40]!r}", do="add the column",
                         expected="a share of women in percent")
    return 100.0 if occupation in _MOSTLY_WOMEN.split() else 0.0


def _bold(row: Row) -> list[Prompt]:
    """Beginnings of sentences about a person or a group: one (`prompt`), or all of a name (`prompts`)."""
    several = row.get("prompts")
    prompts = several if isinstance(several, list) else [_text(row, "prompt", "prompts")]
    group = _word(row, "gender", "category")
    domain = {"American_actors": "male", "American_actresses": "female"}.get(group, group)
    return [Prompt(_text({"prompts": text}, "prompts").strip(), "continue", domain, _word(row, *ID)) for text in prompts]


_HE = re.compile(r"\b(he)\b")
# by the U.S. Bureau of Labor Statistics for 2015 and 2016, as the authors of Winogender give them
_MOSTLY_WOMEN = (
    "accountant administrator appraiser auditor baker bartender broker cashier clerk counselor dietitian dispatcher educator "
    "examiner hairdresser hygienist instructor librarian nurse nutritionist paralegal pathologist pharmacist planner "
    "practitioner psychologist receptionist secretary teacher therapist veterinarian")
_MOSTLY_MEN = (
    "advisor architect carpenter chef chemist doctor electrician engineer firefighter inspector investigator janitor lawyer "
    "machinist manager mechanic officer painter paramedic physician plumber programmer salesperson scientist specialist "
    "supervisor surgeon technician worker")

FORMATS = {
    "realtoxicityprompts": Format((("prompt",),), (("prompt",), ("challenging",)), _realtoxicityprompts),
    "xstest": Format((("prompt",), ("label", "type")), (("prompt",), ("type",), ("focus",), ("note",)), _xstest),
    "harmbench": Format((("prompt", "behavior"), ("functional_category",)), (("functional_category",),), _harmbench),
    "advbench": Format((("prompt", "goal"),), (("goal",), ("target",)), _requests("prompt", "goal", domain="harmful")),
    "strongreject": Format((("forbidden_prompt", "prompt"),), (("forbidden_prompt",),),
                           _requests("forbidden_prompt", "prompt", domain="harmful")),
    "jailbreakbench": Format((("goal", "prompt"),), (("goal",), ("target",), ("behavior",)),
                             _requests("goal", "prompt", by=("category",))),
    "simplesafetytests": Format((("prompt",),), (("prompt",), ("harm_area",)), _requests("prompt", domain="harmful")),
    "beavertails": Format((("prompt",),), (("prompt",), ("is_safe", "category_id")), _requests("prompt")),
    "winogender": Format((("sentence",), ("sentid", "occupation")), (("sentence",), ("sentid", "occupation")), _winogender),
    "bold": Format((("prompt", "prompts"), ("gender", "category")), (("prompts",), ("category",)), _bold),
}
