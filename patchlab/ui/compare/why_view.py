"""Why a reply changed, as HTML: a sentence, the tokens shaded by their log ratio, and tables. All text is escaped."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from patchlab.evaluation.reply_path import Alternatives, NextToken, ReplyPath, ReplyToken
from patchlab.ui import copy
from patchlab.ui.compare import why_words as words
from patchlab.ui.diff import escaped
from patchlab.ui.session import View

FULL, FAINT = math.log(20), math.log(1.5)  # log ratios of the full shade, and below which there is none
_shown = itertools.count()


def idle(said: str = words.IDLE) -> str:
    """What stands there without an explanation. The number makes it new to gradio after the browser has changed it."""
    return f'<div class="why" data-number="{next(_shown)}"><p class="note" role="status">{escaped(said)}</p></div>'


def nothing(why: str) -> str:
    """The explanation of a column that is the unpatched model."""
    return (f'<div class="why" data-number="{next(_shown)}"><p class="why-said" role="status">{escaped(words.NOTHING)} '
            f"{escaped(why)}</p></div>")


def explained(path: ReplyPath, view: View, lane: str) -> str:
    """The whole explanation of a lane's first reply."""
    title = copy.lane_words(lane).title
    toxic = {each.name for each in view.lanes if (found := each.replies[0].scores.get("toxicity")) and found.flagged}
    warnings = [copy.TOXIC_NOTICE] * (lane in toxic) + [words.TOXIC_BASE] * ("base" in toxic)
    warned = "".join(f'<p class="notice">{escaped(each)}</p>' for each in warnings)
    first, *others = words.sentences(path, title)
    more = f'<p class="why-more">{escaped(" ".join(others))}</p>' if others else ""
    notes = " ".join(words.notes(path, view, lane))
    return (f'<div class="why" data-number="{next(_shown)}">{warned}<p class="why-said" role="status">{escaped(first)}</p>'
            f"{more}{_strip(path, title)}{_forks(path, title)}{_all(path, title)}"
            f'<p class="note">{escaped(notes)}</p></div>')


def _strip(path: ReplyPath, title: str) -> str:
    tokens = "".join(_token(token, title, fork=place == path.fork) for place, token in enumerate(path.tokens)).lstrip()
    lane = title.lower()
    keys = [("likelier", words.LIKELIER_KEY.format(lane=lane)), ("rarer", words.RARER_KEY.format(lane=lane))]
    keys += [("fork", words.FORK_KEY)] if path.fork is not None else []
    legend = "".join(f'<li><span class="token {name}" style="--much:70%" aria-hidden="true"></span>{escaped(said)}</li>'
                     for name, said in keys)
    return (f'<h3>{escaped(words.STRIP_TITLE)}</h3><ul class="why-key">{legend}</ul>'
            f'<p class="token-strip" dir="auto">{tokens}</p><p class="note">{escaped(words.STRIP_NOTE)}</p>')


def _token(token: ReplyToken, title: str, *, fork: bool) -> str:
    """A token of the strip; the space before a word stays outside of its shade."""
    size = abs(token.log_ratio)
    shade = [] if size < FAINT else ["likelier" if token.log_ratio > 0 else "rarer"]
    classes = ["token", *shade, *(["fork"] if fork else [])]
    style = f' style="--much:{min(1.0, size / FULL):.0%}"' if size >= FAINT else ""
    on, off = words.chances(token)
    said = words.TOKEN_TITLE.format(lane=title, on=on, off=off, ratio=words.ratio(token))
    tag = "mark" if fork else "span"
    text = token.text if token.text.strip() else ""
    before = text[:len(text) - len(text.lstrip())]
    shown = escaped(text[len(before):]) if text else f'<i class="unwritten">{escaped(words.shown(token))}</i>'
    gap = "\n" * token.text.count("\n") if not text else ""
    return f'{before}<{tag} class="{" ".join(classes)}"{style} title="{escaped(said)}">{shown}</{tag}>{gap}'


def _forks(path: ReplyPath, title: str) -> str:
    if not path.alternatives:
        return f'<p class="note">{escaped(words.NO_ALTERNATIVES)}</p>'
    heads = [head.format(lane=title) for head in words.FORKS_HEAD]
    rows = "".join(_fork(path, each, heads) for each in path.alternatives)
    return (f'<h3>{escaped(words.FORKS_TITLE)}</h3><p class="note">{escaped(words.FORKS_NOTE)}</p>'
            f"{_table('forks', heads, rows)}")


def _fork(path: ReplyPath, each: Alternatives, heads: Sequence[str]) -> str:
    token = path.tokens[each.place]
    mark = f' <span class="pill">{escaped(words.FIRST_FORK)}</span>' if each.place == path.fork else ""
    place = words.where(path.tokens, each.place)
    return (f'<tr><th scope="row" dir="auto"><span class="number">{each.place + 1}</span> {escaped(place)}{mark}</th>'
            f'<td data-column="{escaped(heads[1])}"><div><strong>{_quoted(token)}</strong><br>{escaped(words.ratio(token))}'
            "</div></td>"
            f'{_list(each.lane, token, heads[2])}{_list(each.base, token, heads[3])}</tr>')


def _list(candidates: Sequence[NextToken], written: ReplyToken, head: str) -> str:
    """The candidates of one model, with bars; the one that was written is bold."""
    items = ""
    for each in candidates:
        same = (each.text, each.ends) == (written.text, written.ends)
        name = f"<strong>{_quoted(each)}</strong>" if same else _quoted(each)
        items += (f'<li><span dir="auto">{name}</span><span class="chance">{words.chance(each.probability)}</span>'
                  f'<span class="chance-bar" aria-hidden="true"><i style="width:{each.probability:.1%}"></i></span></li>')
    return f'<td data-column="{escaped(head)}"><ol class="candidates">{items}</ol></td>'


def _all(path: ReplyPath, title: str) -> str:
    heads = [head.format(lane=title) for head in words.ALL_HEAD]
    rows = "".join(
        f'<tr><th scope="row" dir="auto">{_quoted(token)}</th>' + "".join(
            f'<td data-column="{escaped(head)}">{escaped(value)}</td>' for head, value in zip(
                heads[1:], (*words.chances(token), words.ratio(token)), strict=True)) + "</tr>"
        for token in path.tokens)
    return f"<details><summary>{escaped(words.ALL_TITLE)}</summary>{_table('all-tokens', heads, rows)}</details>"


def _quoted(token: ReplyToken | NextToken) -> str:
    """A token in quotation marks, or what it is where it has no words, in italics."""
    said = escaped(words.shown(token))
    return f"“{said}”" if token.text.strip() and not token.ends else f"<i>{said}</i>"


def _table(name: str, heads: Sequence[str], rows: str) -> str:
    cells = "".join(f'<th scope="col">{escaped(head)}</th>' for head in heads)
    return f'<table class="{name}"><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>'
