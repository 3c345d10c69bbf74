"""Installed patches as cards of HTML, the versions of one name together, the newest first. What a manifest says is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from patchlab.patches.compatibility import superseded_by
from patchlab.patches.folder import read_file
from patchlab.patches.interactions import label
from patchlab.patches.manifest import CARD_FILE
from patchlab.ui.diff import escaped
from patchlab.ui.evidence_table import evidence
from patchlab.ui.patches import patches_words

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.patches.manifest import Manifest
    from patchlab.registry import Installed

MAX_CARD = 65_536  # bytes of a card that are shown
MAX_SHOWN = 300  # patches on the page


class Checked(NamedTuple):
    """What a verification found: of which patch, by its digest, in words, and whether it is intact."""

    digest: str
    words: str
    intact: bool


def groups(lab: Lab) -> list[list[Installed]]:
    """Installed patches by name and base, those for the lab's base first; of each the newest version first."""
    found: dict[tuple[str, str], list[Installed]] = {}
    for each in lab.registry.list():
        found.setdefault((each.manifest.name, each.manifest.base.fingerprint), []).insert(0, each)
    return sorted(found.values(), key=lambda group: (not lab.base.same_base(group[0].manifest.base), group[0].manifest.base.id,
                                                     group[0].manifest.name))


def cards(lab: Lab, checked: Checked | None = None) -> str:
    """All installed patches, and the folders that are none; `checked` stands on its patch's card."""
    found = groups(lab)[:MAX_SHOWN]
    manifests = [each.manifest for group in found for each in group]
    shown = "".join(_group(lab, group, manifests, checked) for group in found)
    return (f'<div class="patch-cards">{shown}</div>' if shown else f'<p class="note">{patches_words.EMPTY}</p>') + _broken(
        lab.registry.broken)


def _group(lab: Lab, group: Sequence[Installed], manifests: Sequence[Manifest], checked: Checked | None) -> str:
    newest, *older = group
    more = ""
    if older:
        opened = " open" if checked and checked.digest in {each.manifest.digest for each in older} else ""
        inside = "".join(_card(lab, each, manifests, checked, older=True) for each in older)
        more = (f'<details class="older"{opened}><summary>{patches_words.OLDER.format(count=len(older))}</summary>{inside}'
                "</details>")
    return f'<div class="patch-group">{_card(lab, newest, manifests, checked)}{more}</div>'


def _card(lab: Lab, installed: Installed, manifests: Sequence[Manifest], checked: Checked | None, *, older: bool = False) -> str:
    m = installed.manifest
    return (f'<article class="patch-card" data-patch="{escaped(m.folder_name)}"><header><h3>{escaped(m.title)}</h3>'
            f'<p class="patch-name"><code>{escaped(m.name)}</code> {escaped(m.version)}</p>{_pills(lab, m, manifests, older)}'
            f'</header><p>{escaped(m.summary)}</p>{_facts(m)}{evidence(m.evidence)}{_files(installed)}'
            f'<footer><button type="button" class="verify" data-digest="{escaped(m.digest)}" aria-label="'
            f'{patches_words.VERIFY}: {escaped(m.folder_name)}">{patches_words.VERIFY}</button>{_said(m, checked)}'
            "</footer></article>")


def _pills(lab: Lab, m: Manifest, manifests: Sequence[Manifest], older: bool) -> str:
    fits = lab.base.same_base(m.base)
    newer = [label(each) for each in superseded_by(m, manifests)]
    marks = [("good", patches_words.FITS) if fits else ("plain", patches_words.OTHER_BASE)]
    marks += [("unclear", patches_words.SUPERSEDED.format(names=", ".join(newer)))] if newer else []
    marks += [("plain", patches_words.OLDER_VERSION)] if older and not newer else []
    return '<ul class="pills">' + "".join(f'<li class="pill {tone}">{escaped(words)}</li>' for tone, words in marks) + "</ul>"


def _facts(m: Manifest) -> str:
    base = " ".join(filter(None, (m.base.id, m.base.revision)))
    facts = [("Made for", f"{escaped(base)} <code>{escaped(m.base.fingerprint[:15])}</code>"),
             ("Length", f"{m.length} embeddings of width {m.width:,}"), ("Strength", f"{m.strength:g}, as calibrated"),
             ("Gate", patches_words.GATE_YES if m.gated else patches_words.GATE_NO),
             ("Learned from", escaped(m.reference)), ("Licence", escaped(m.licence)),
             ("Digest", f'<code class="digest">{escaped(m.digest)}</code>')]
    return '<dl class="facts">' + "".join(f"<div><dt>{name}</dt><dd>{words}</dd></div>" for name, words in facts) + "</dl>"


def _files(installed: Installed) -> str:
    rows = "".join(f"<li>{escaped(name)} <code>{escaped(digest)}</code></li>"
                   for name, digest in installed.manifest.files.items())
    try:
        text = read_file(installed.folder, CARD_FILE, cap=MAX_CARD).decode("utf-8", "replace")
    except Exception as error:  # a card that cannot be read is one line, and verification says more
        text = without_paths(str(error), [installed.folder])
    return (f"<details><summary>{patches_words.CARD}</summary><pre>{escaped(text)}</pre></details>"
            f"<details><summary>{patches_words.FILES}</summary><ul class='digests'>{rows}</ul></details>")


def _said(m: Manifest, checked: Checked | None) -> str:
    if checked is None or checked.digest != m.digest:
        return '<span class="checked" role="status"></span>'
    return (f'<span class="checked {"good" if checked.intact else "bad"}" role="{"status" if checked.intact else "alert"}">'
            f"{escaped(checked.words)}</span>")


def _broken(broken: Iterable[tuple[Path, str]]) -> str:
    rows = "".join(f"<li><code>{escaped(folder.name)}</code> {escaped(without_paths(reason, [folder]))}</li>"
                   for folder, reason in [*broken][:MAX_SHOWN])
    return f'<h2>{patches_words.BROKEN_TITLE}</h2><ul class="broken">{rows}</ul>' if rows else ""


def without_paths(words: str, folders: Iterable[Path]) -> str:
    """An error's words with folders by their names only: where they lie on the server is nobody's business."""
    for folder in folders:
        words = words.replace(str(folder), folder.name).replace(f"{folder.parent}/", "")
    return words
