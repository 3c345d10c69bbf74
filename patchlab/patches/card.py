"""The model card of a patch: README.md written from its manifest and nothing else, so that they agree."""

from __future__ import annotations

import json
import re

from patchlab.patches.manifest import Manifest
from patchlab.records import Measure

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# The Hub knows licences by these ids; any other is "other" with a name.
_HUB_LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
                 "gpl-3.0", "openrail")


def model_card(manifest: Manifest) -> str:
    """The card as Markdown, with YAML front matter for the Hub."""
    sections = (_front_matter(manifest), _about(manifest), _loading(manifest), _evidence(manifest),
                _limits(manifest))
    return "\n\n".join(sections) + "\n"


def _front_matter(manifest: Manifest) -> str:
    # JSON strings are YAML strings, so json.dumps quotes whatever a manifest holds.
    lines = ["---", "library_name: peft", "pipeline_tag: text-generation"]
    if _HUB_ID.fullmatch(manifest.base.id):
        lines.append(f"base_model: {json.dumps(manifest.base.id)}")
    licence = manifest.licence.lower()
    if licence in _HUB_LICENCES:
        lines.append(f"license: {licence}")
    else:
        lines += ["license: other", f"license_name: {json.dumps(manifest.licence, ensure_ascii=False)}"]
    tags = dict.fromkeys(("patchlab", "prompt-tuning", "safety", manifest.domain))
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _about(manifest: Manifest) -> str:
    base = manifest.base
    rows = [
        ("patch", f"`{manifest.name}` {manifest.version}"),
        ("domain", manifest.domain),
        ("base", _escape(base.id) + (f" at revision `{base.revision}`" if base.revision else "")),
        ("base fingerprint", f"`{base.fingerprint}`"),
        ("reference", _escape(manifest.reference)),
        ("prefix", f"{manifest.length} embeddings of width {manifest.width} "
                   f"({manifest.length * manifest.width:,} parameters), before the text"),
        ("calibrated strength", f"{manifest.strength:g}"),
        ("licence", _escape(manifest.licence)),
        ("supersedes", ", ".join(manifest.supersedes)),
        ("conflicts with", ", ".join(manifest.conflicts)),
    ]
    table = "\n".join(f"| {label} | {value} |" for label, value in rows if value)
    return (f"# {_escape(manifest.title)}\n\n{_escape(manifest.summary)}\n\n"
            f"The base stays frozen: this patch is a learned prefix that is put before the prompt, and "
            f"removing it gives the base back exactly.\n\n| | |\n|---|---|\n{table}")


def _loading(manifest: Manifest) -> str:
    revision = f", revision={json.dumps(manifest.base.revision)}" if manifest.base.revision else ""
    return f"""## How to load

With PatchLab, which checks the folder, the base and the digests, can stack patches and set their strength:

```console
patchlab patches install {manifest.folder_name}
patchlab compare "Your prompt" --stack {manifest.name}
```

With PEFT, which opens this folder as it is:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained({json.dumps(manifest.base.id)}{revision})
patched = PeftModel.from_pretrained(base, {json.dumps(manifest.folder_name)})
```"""


def _evidence(manifest: Manifest) -> str:
    if not manifest.evidence:
        return "## Evidence\n\nNo measurement is recorded for this patch. Measure it before relying on it."
    rows = "\n".join(_row(measure) for measure in manifest.evidence)
    return ("## Evidence\n\n| suite | lane | metric | value | 95 % interval | n | scorer |\n"
            f"|---|---|---|---|---|---|---|\n{rows}")


def _row(measure: Measure) -> str:
    words = [_escape(text) for text in (measure.suite, measure.lane, measure.metric)]
    numbers = f"{measure.value:.3g} | {measure.low:.3g} to {measure.high:.3g} | {measure.n}"
    return f"| {' | '.join(words)} | {numbers} | {_escape(measure.scorer)} |"


def _limits(manifest: Manifest) -> str:
    return f"""## Limits

- It is made for one base, the one whose fingerprint is above. On any other model its embeddings mean nothing.
- The evidence holds for the suites, scorers and sampling it was measured with. Nothing else was measured.
- It lowers the rate of unwanted replies; it does not rule them out.
- It takes {manifest.length} positions of the context.
- PEFT always applies it at strength 1, one patch at a time, and puts it before left padding, so that a
  padded row can differ from the same prompt alone."""


def _escape(text: str) -> str:
    """`text` with the characters escaped that Markdown or HTML would act on."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)
