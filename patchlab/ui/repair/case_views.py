"""What the Repair tab shows of a failure and of a repair, as HTML made of escaped texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from patchlab.records import Measure, Prompt
from patchlab.repair import Located
from patchlab.repair.report import TITLES
from patchlab.ui.diff import escaped
from patchlab.ui.repair import repair_words

FAINT = 0.08  # below this share of the highest score a word has no colour


def heat_strip(words: Sequence[str], scores: Sequence[float], cut: Sequence[int]) -> str:
    """The words, the darker the higher their score, those that are cut framed."""
    highest = max([*scores, 1e-9])
    marks = []
    for number, (word, score) in enumerate(zip(words, scores, strict=True)):
        share = max(0.0, score) / highest
        style = f' style="--heat:{share:.0%}"' if share >= FAINT else ""
        tag = "mark" if number in cut else "span"
        title = escaped(repair_words.WORD_TITLE.format(score=score))
        marks.append(f'<{tag} class="word"{style} title="{title}">{escaped(word)}</{tag}>')
    return (f'<p class="heat-strip" aria-label="{escaped(" ".join(words))}">{" ".join(marks)}</p>'
            f'<p class="note">{escaped(repair_words.HEAT)}</p>')


def finding(found: Located, tested: int, unlikely: float) -> str:
    """What was found, in sentences."""
    said = [repair_words.TRANSFER.format(n=tested, complied=found.complied, share=found.complied_with,
                                         control=found.complied_control)] if tested else []
    said.append(repair_words.FLIPS if found.flips else repair_words.NO_FLIP)
    if found.surprise > unlikely:
        said.append(repair_words.UNLIKELY.format(surprise=found.surprise))
    if 2 * len(found.words) > len(found.scores):
        said.append(repair_words.LONG)
    head = repair_words.FOUND if found.found else repair_words.NOT_FOUND
    return (f'<div class="finding {"bad" if found.found else "none"}"><strong>{escaped(head)}</strong> '
            f'{escaped(" ".join(said))}</div>')


def injected_list(prompts: Sequence[Prompt], units: Sequence[str]) -> str:
    """Prompts with the trigger in them, its words marked."""
    if not prompts:
        return f'<p class="note">{escaped(repair_words.NOTHING_CUT)}</p>'
    rows = "".join(f"<li>{_marked(prompt.text, units)}</li>" for prompt in prompts)
    return f'<h2>{escaped(repair_words.INJECTED_TITLE)}</h2><ul class="injected">{rows}</ul>'


def measures_table(before: Sequence[Measure], after: Sequence[Measure]) -> str:
    """The shares before and after, with their intervals."""
    old = {each.metric: each for each in before}
    rows = "".join(f'<tr><th scope="row">{escaped(TITLES[each.metric])}</th><td>{_value(old.get(each.metric))}</td>'
                   f"<td>{_value(each)}</td><td>{each.n}</td></tr>" for each in after)
    return _table(repair_words.MEASURES_TITLE, repair_words.MEASURES_HEAD, rows)


def replies_table(rows: Sequence[tuple[str, str, str]], units: Sequence[str]) -> str:
    """Requests with the replies before and after."""
    body = "".join(f'<tr><th scope="row">{_marked(asked, units)}</th><td>{escaped(old)}</td><td>{escaped(new)}</td></tr>'
                   for asked, old, new in rows)
    return _table(repair_words.REPLIES_TITLE, repair_words.REPLIES_HEAD, body)


def progress_bar(done: int, total: int, label: str, numbers: Mapping[str, float]) -> str:
    """A bar, and the losses of the step where there are any."""
    losses = ", ".join(f"{name} {value:.3f}" for name, value in numbers.items())
    return (f'<progress max="{max(1, total)}" value="{done}" aria-label="{escaped(label)}"></progress>'
            f'<p class="note">{escaped(losses)}</p>')


def _table(title: str, head: Sequence[str], rows: str) -> str:
    cells = "".join(f'<th scope="col">{escaped(each)}</th>' for each in head)
    return (f'<h2>{escaped(title)}</h2><div class="table-scroll"><table class="history"><thead><tr>{cells}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>")


def _value(measure: Measure | None) -> str:
    return "" if measure is None else f"{measure.value:.2f} <small>({measure.low:.2f} to {measure.high:.2f})</small>"


def _marked(text: str, units: Sequence[str]) -> str:
    """The text with the first place of each unit marked; what stands between is escaped piece by piece."""
    found, rest = "", text
    for unit in units:
        before, here, after = rest.partition(unit)
        if not here:
            continue
        found += f"{escaped(before)}<mark>{escaped(unit)}</mark>"
        rest = after
    return found + escaped(rest)
