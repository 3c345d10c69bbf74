"""The answer of a reply: what is left when its reasoning is cut off. Scorers judge the answer and nothing else.

Models that reason write it before the answer, each family between marks of its own. Marks count at the beginning of a line,
so that a text about such marks stays as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from patchlab.errors import InputError

_NAMES = r"(?:think|thinking|thought|thoughts|reasoning|reason|reflection|analysis|scratchpad|seed:think)"
# (what opens reasoning, what closes it); the closing one also counts without an opening one, which a template may have written
_MARKS = tuple((re.compile(rf"^[ \t]*{opening}", re.IGNORECASE | re.MULTILINE), re.compile(closing, re.IGNORECASE))
               for opening, closing in (
    (rf"<{_NAMES}\b[^<>\n]{{0,60}}>", rf"(?<![`'\"“])</{_NAMES}>(?![`'\"”])"),
    (r"\[THINK(?:ING)?\]", r"(?<![`'\"“])\[/THINK(?:ING)?\](?![`'\"”])"),
    (r"◁think▷", r"◁/think▷"),
    (r"<\|(?:START_THINKING|begin_of_thought|thinking)\|>", r"<\|(?:END_THINKING|end_of_thought|/thinking)\|>"),
))
# a reply in channels: what comes after the last mark of the final one, or nothing as long as there is none
_CHANNEL = re.compile(r"\s*(?:<\|start\|>\s*assistant\s*)?<\|channel\|>")
_FINAL = re.compile(r"<\|channel\|>\s*final[^<]{0,80}<\|message\|>")
_BARE = re.compile(r"\A\s*(?:analysis|commentary)(?=[A-Z]).*?assistantfinal", re.DOTALL)  # the same, special tokens left out
_HEADINGS = re.compile(r"\A\s*Here(?: is|'s) my (?:thought|thinking|reasoning)(?: process)?:(.*?)(?:Here(?: is|'s) my "
                       r"(?:response|answer):|\Z)", re.DOTALL | re.IGNORECASE)
_WRAPPER = re.compile(r"\A\s*<(answer|response|final_answer)>(.*?)(?:</\1>\s*|\Z)\Z", re.DOTALL | re.IGNORECASE)
_TURN_MARKS = re.compile(r"<\|(?:end|return|im_end|eot_id|START_RESPONSE|END_RESPONSE|begin_of_solution|end_of_solution)\|>")


def answer_of(text: str) -> str:
    """The text without its reasoning; empty for a reply that is all reasoning. A text without marks comes back as it is."""
    if "<" not in text and "[" not in text and "◁" not in text:
        bare = _BARE.match(text) or _HEADINGS.match(text)
        return text[bare.end():] if bare else text
    if _CHANNEL.match(text):
        final = list(_FINAL.finditer(text))
        return _TURN_MARKS.sub("", text[final[-1].end():]) if final else ""
    for opening, closing in _MARKS:
        text = _without(text, opening, closing)
    wrapped = _WRAPPER.match(text)
    return _TURN_MARKS.sub("", wrapped[2] if wrapped else text)


def has_text(answer: str) -> bool:
    """Whether there is anything to judge: a letter, a digit or a symbol that can be seen."""
    return any(unicodedata.category(letter)[0] in "LNPS" for letter in answer)


def _without(text: str, opening: re.Pattern[str], closing: re.Pattern[str]) -> str:
    """The text without the blocks between two marks; an unclosed block reaches to the end.

    What stands before a closing mark that nothing opened is reasoning too: the template wrote the opening one.
    """
    marks = sorted([(found.span(), True) for found in opening.finditer(text)]
                   + [(found.span(), False) for found in closing.finditer(text)])
    kept: list[str] = []
    at, inside = 0, False
    for (start, end), opens in marks:
        if not opens and not inside:
            kept = []
        elif opens and not inside:
            kept.append(text[at:start])
        inside, at = opens, end
    return "".join(kept) + ("" if inside else text[at:])


def check_texts(texts: Sequence[str], prompts: Sequence[str] | None) -> None:
    """Raise InputError for a string instead of a list of texts, and for prompts that are not one for each text."""
    if isinstance(texts, str):
        raise InputError("one string", expected="a list of texts", do="put the text into a list")
    if prompts is not None and len(prompts) != len(texts):
        raise InputError(f"{len(texts)} texts with {len(prompts)} prompts", expected="one prompt a text",
                         do="pass lists of the same length")
