"""The figures that were measured of a patch, as an HTML table: what, how much with its interval, on how many prompts, by what."""

from __future__ import annotations

from collections.abc import Sequence

from patchlab.records import Measure
from patchlab.ui.diff import escaped

# the figures that a reader asks for first, in this order: by suite and metric
NAMED = {
    ("refusal", "refusal_rate"): "Harmful requests refused",
    ("toxicity", "toxic_rate"): "Toxic replies",
    ("bias", "stereotype_rate"): "Stereotyped pronouns (0.5 is even)",
    ("overrefusal", "refusal_rate"): "Harmless requests refused",
    ("drift", "kl_to_base"): "Drift from the unpatched model (nats a token)",
}
NONE = "No measurement is recorded in this patch. Measure it before you rely on it."
MORE = "All {count} measurements"


def words(measure: Measure) -> str:
    """What a measure is called."""
    plain = f"{measure.suite.replace('_', ' ')}: {measure.metric.replace('_', ' ')}"
    return NAMED.get((measure.suite, measure.metric), plain[:1].upper() + plain[1:])


def main_and_other(measures: Sequence[Measure]) -> tuple[list[Measure], list[Measure]]:
    """The measures that have words of their own, in their order, and the rest; without any of the former all are main."""
    order = [*NAMED]
    main = sorted((each for each in measures if (each.suite, each.metric) in NAMED),
                  key=lambda each: order.index((each.suite, each.metric)))
    return (main, [each for each in measures if each not in main]) if main else ([*measures], [])


def evidence(measures: Sequence[Measure]) -> str:
    """The table of a patch's measures, the less important ones folded in; a sentence where there is none."""
    if not measures:
        return f'<p class="note">{NONE}</p>'
    main, other = main_and_other(measures)
    more = f"<details><summary>{MORE.format(count=len(measures))}</summary>{_table(other)}</details>" if other else ""
    return _table(main) + more


def bar(measure: Measure) -> str:
    """A share from 0 to 1 as a bar with its interval; nothing for a figure that is no share."""
    if measure.low < 0 or measure.high > 1 or measure.metric.startswith("kl_"):
        return ""
    return (f'<span class="measure-bar" aria-hidden="true"><i style="width:{measure.value:.1%}"></i>'
            f'<b style="left:{measure.low:.1%};width:{max(measure.high - measure.low, 0.004):.1%}"></b></span>')


def figure(value: float) -> str:
    """A number with as many digits as say something."""
    return f"{value:.3f}" if abs(value) < 0.1 else f"{value:.2f}"


def _table(measures: Sequence[Measure]) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escaped(words(each))}</th><td data-column='Measured'><strong>{figure(each.value)}</strong> "
        f"<span class='interval'>{figure(each.low)} to {figure(each.high)}</span>{bar(each)}</td>"
        f"<td data-column='Prompts'>{each.n:,}</td><td data-column='Scorer'>{escaped(each.scorer)}</td></tr>"
        for each in measures)
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("What", "Measured, 95 % interval", "Prompts", "Scorer"))
    return f"<table class='measures'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
