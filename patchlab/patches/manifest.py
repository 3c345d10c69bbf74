"""What a patch says about itself: patch.json as a checked, frozen value. Knows no files and no tensors.

A Manifest cannot exist with a bad value: its constructor checks, so what is written can always be read again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NoReturn

from patchlab.errors import PatchFormatError
from patchlab.records import Measure

SCHEMA = 1
MAX_LENGTH = 4096  # P
MAX_WIDTH = 65536  # D
MAX_PREFIX_BYTES = 256 * 2**20  # as float32
MAX_STRENGTH = 4.0
MAX_MEASURES = 1000
MANIFEST_FILE = "patch.json"
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"
SIGNATURE_FILE = "model.sig"
GATE_FILE = "gate.safetensors"
CURVE_FILE = "curve.json"
FILES = (CARD_FILE, CONFIG_FILE, WEIGHTS_FILE,
         MANIFEST_FILE)  # every patch folder holds these, perhaps some of the optional ones, and perhaps a signature
OPTIONAL = (GATE_FILE, CURVE_FILE)

NAME = re.compile(r"(?=.{1,64}\Z)[a-z][a-z0-9]*(-[a-z0-9]+)*")
RESERVED_NAMES = ("none",)  # what an empty stack is called
_NUMBER = r"(0|[1-9][0-9]*)"
_TAG = r"(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
VERSION = re.compile(
    rf"(?=.{{1,64}}\Z){_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_TAG}(\.{_TAG})*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_IDENTITY = re.compile(r"[0-9A-Za-z:._/+=-]{1,256}")


def is_name(text: str) -> bool:
    """Whether `text` can name a patch: lower-case letters, digits and single hyphens, 64 at most."""
    return NAME.fullmatch(text) is not None and text not in RESERVED_NAMES


def is_version(text: str) -> bool:
    """Whether `text` is a semantic version (semver.org 2.0.0), 64 characters at most."""
    return VERSION.fullmatch(text) is not None


def is_prerelease(version: str) -> bool:
    """Whether a semantic version carries a pre-release tag, as 1.0.0-rc.1 does."""
    return "-" in version.partition("+")[0]


def version_key(version: str) -> tuple[Any, ...]:
    """A sort key in semantic-version order, newest last (semver.org 2.0.0, § 11); build tags break ties."""
    core, _, build = version.partition("+")
    release, _, tags = core.partition("-")
    ranked = tuple((0, int(tag), "") if tag.isdigit() else (1, 0, tag) for tag in tags.split(".") if tag)
    return (*map(int, release.split(".")), not ranked, ranked, build)


@dataclass(frozen=True, slots=True)
class BaseIdentity:
    """Which base a patch was made for: its id and revision in words, the rest as identities that must match.

    `revision` and `template_digest` are empty where a base has none. Raises PatchFormatError.
    """

    id: str
    revision: str
    fingerprint: str
    tokenizer_digest: str
    template_digest: str

    def __post_init__(self) -> None:
        _text(self.id, "base.id", limit=256)
        for name in ("revision", "fingerprint", "tokenizer_digest", "template_digest"):
            value = getattr(self, name)
            may_be_empty = name in ("revision", "template_digest")
            if not (isinstance(value, str) and (_IDENTITY.fullmatch(value) or (may_be_empty and not value))):
                _refuse(f"base.{name}", value, "letters, digits and :._/+=-, 256 at most")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of patch.json.

    `length` is P, `width` is D, `strength` the calibrated default in (0, 4]. `supersedes` and `conflicts`
    hold patches as "name" or "name@version". `files` maps each file of a saved patch to its sha256, the optional ones
    where it has them, and is empty before the first save. Raises PatchFormatError naming the field that is wrong.
    """

    name: str
    version: str
    title: str
    summary: str
    domain: str
    base: BaseIdentity
    reference: str
    length: int
    width: int
    licence: str
    strength: float = 1.0
    recipe_digest: str = ""
    evidence: tuple[Measure, ...] = ()
    supersedes: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    placement: Literal["prefix"] = "prefix"
    schema: int = SCHEMA
    files: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _check_words(self)
        _check_shape(self)
        _check_lists(self)

    @property
    def folder_name(self) -> str:
        """The name of the patch's folder, as "toxicity-1.0.0"."""
        return f"{self.name}-{self.version}"

    @property
    def digest(self) -> str:
        """One sha256 for the whole saved patch, its signature aside; empty before the first save."""
        return self.files.get(MANIFEST_FILE, "")

    @property
    def gated(self) -> bool:
        """Whether the saved patch has a gate."""
        return GATE_FILE in self.files

    @property
    def order(self) -> tuple[Any, ...]:
        """A sort key among a patch's versions, the preferred one last: releases come after pre-releases."""
        return (not is_prerelease(self.version), *version_key(self.version))

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values, keys in a fixed order."""
        return {
            "schema": self.schema, "name": self.name, "version": self.version, "title": self.title,
            "summary": self.summary, "domain": self.domain,
            "base": {f.name: getattr(self.base, f.name) for f in fields(BaseIdentity)},
            "reference": self.reference, "placement": self.placement,
            "length": self.length, "width": self.width,
            "strength": float(self.strength), "recipe_digest": self.recipe_digest,
            "evidence": [measure_to_json(measure) for measure in self.evidence],
            "supersedes": list(self.supersedes), "conflicts": list(self.conflicts), "licence": self.licence,
            "files": dict(sorted(self.files.items())),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Manifest:
        """The manifest in a parsed patch.json. Raises PatchFormatError for missing, unknown or wrong keys."""
        if isinstance(value, dict) and value.get("schema") != SCHEMA:
            raise PatchFormatError(f"{MANIFEST_FILE} has schema {_show(value.get('schema'))}",
                                   expected=f"schema {SCHEMA}",
                                   do="update PatchLab or get a patch made for this version")
        check_keys(value, cls, "")
        check_keys(value["base"], BaseIdentity, "base")
        plain = dict(value, base=BaseIdentity(**value["base"]))
        for name in ("evidence", "supersedes", "conflicts"):
            if not isinstance(value[name], list):
                _refuse(name, value[name], "a list")
            plain[name] = tuple(value[name])
        for index, row in enumerate(value["evidence"]):
            check_keys(row, Measure, f"evidence[{index}]")
        plain["evidence"] = tuple(Measure(**row) for row in value["evidence"])
        return cls(**plain)


def _check_words(manifest: Manifest) -> None:
    if type(manifest.schema) is not int or manifest.schema != SCHEMA:
        _refuse("schema", manifest.schema, str(SCHEMA))
    if not (isinstance(manifest.name, str) and is_name(manifest.name)):
        _refuse("name", manifest.name, "lower-case letters, digits and single hyphens, as 'toxicity'")
    if not (isinstance(manifest.version, str) and is_version(manifest.version)):
        _refuse("version", manifest.version, "a semantic version, as 1.0.0")
    if not (isinstance(manifest.domain, str) and NAME.fullmatch(manifest.domain)):
        _refuse("domain", manifest.domain, "one word, as 'toxicity', 'bias' or 'refusal'")
    if manifest.placement != "prefix":
        _refuse("placement", manifest.placement, "'prefix'")
    if not isinstance(manifest.base, BaseIdentity):
        _refuse("base", manifest.base, "a base identity")
    _text(manifest.title, "title", limit=120)
    _text(manifest.summary, "summary", limit=2000)
    _text(manifest.reference, "reference", limit=256)
    _text(manifest.licence, "licence", limit=100)
    if not (isinstance(manifest.recipe_digest, str)
            and (not manifest.recipe_digest or _IDENTITY.fullmatch(manifest.recipe_digest))):
        _refuse("recipe_digest", manifest.recipe_digest, "a digest or nothing")


def _check_shape(manifest: Manifest) -> None:
    for name, most in (("length", MAX_LENGTH), ("width", MAX_WIDTH)):
        value = getattr(manifest, name)
        if type(value) is not int or not 1 <= value <= most:
            _refuse(name, value, f"a whole number from 1 to {most}")
    if manifest.length * manifest.width * 4 > MAX_PREFIX_BYTES:
        _refuse("length x width", f"{manifest.length} x {manifest.width}",
                f"at most {MAX_PREFIX_BYTES // 2**20} MiB as float32")
    _number(manifest.strength, "strength")
    if not 0 < manifest.strength <= MAX_STRENGTH:
        _refuse("strength", manifest.strength, f"more than 0 and at most {MAX_STRENGTH:g}")


def _check_lists(manifest: Manifest) -> None:
    for name in ("supersedes", "conflicts"):
        for patch in _items(getattr(manifest, name), name):
            if not (isinstance(patch, str) and _is_reference(patch)):
                _refuse(name, patch, "patches as 'name' or 'name@version'")
    for index, measure in enumerate(_items(manifest.evidence, "evidence")):
        if not isinstance(measure, Measure):
            _refuse(f"evidence[{index}]", measure, "a measure")
        check_measure(measure, f"evidence[{index}]")
    if not isinstance(manifest.files, dict):
        _refuse("files", manifest.files, "file names with their sha256")
    for file, digest in manifest.files.items():
        if file not in (*FILES, *OPTIONAL):
            _refuse("files", file, f"only {', '.join((*FILES, *OPTIONAL))}")
        if not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
            _refuse(f"files[{file!r}]", digest, "a sha256 in hex")


def check_measure(measure: Measure, where: str) -> None:
    """Raise PatchFormatError, naming the field under `where`, for a figure that is none."""
    for name in ("suite", "lane", "metric", "scorer"):
        _text(getattr(measure, name), f"{where}.{name}", limit=256)
    for name in ("value", "low", "high"):
        _number(getattr(measure, name), f"{where}.{name}")
    if measure.low > measure.high:
        _refuse(where, f"low {measure.low:g} over high {measure.high:g}", "an interval from low to high")
    if type(measure.n) is not int or not 1 <= measure.n <= 2**53:
        _refuse(f"{where}.n", measure.n, "a whole number of at least 1")


def measure_to_json(measure: Measure) -> dict[str, Any]:
    """A figure as plain JSON values."""
    row = {f.name: getattr(measure, f.name) for f in fields(Measure)}
    return row | {name: float(row[name]) for name in ("value", "low", "high")}


def _is_reference(text: str) -> bool:
    name, at, version = text.partition("@")
    return is_name(name) and (is_version(version) if at else True)


def _items(value: object, name: str) -> Iterable[Any]:
    if not isinstance(value, tuple) or len(value) > MAX_MEASURES:
        _refuse(name, value, f"at most {MAX_MEASURES} entries in order")
    return value


def check_keys(value: object, kind: type, where: str, *, file: str = MANIFEST_FILE) -> None:
    """Raise PatchFormatError unless `value`, at `where` in `file`, is an object with exactly the fields of `kind`."""
    inside = f"{file} {where}".strip()
    if not isinstance(value, dict):
        raise PatchFormatError(f"{inside} is {_show(value)}", expected="an object",
                               do="correct it or get the patch again from its vendor")
    wanted = {f.name for f in fields(kind)}
    wrong = [f"no key {key!r}" for key in sorted(wanted - value.keys())]
    wrong += [f"an unknown key {_show(key)}" for key in sorted(value.keys() - wanted)[:5]]
    if wrong:
        raise PatchFormatError(f"{inside} has {' and '.join(wrong)}", expected=f"the keys of schema {SCHEMA}",
                               do="update PatchLab or get the patch again from its vendor")


def _text(value: object, name: str, *, limit: int) -> None:
    # isprintable: no line breaks to forge a card with, no direction marks, no lone surrogates.
    if not (isinstance(value,
                       str) and 0 < len(value) <= limit and value.isprintable() and value == value.strip()):
        _refuse(name, value, f"one line of 1 to {limit} printable characters")


def _number(value: Any, name: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and abs(value) < 1e300):  # NaN is not smaller than anything
        _refuse(name, value, "a finite number")


def _show(value: object) -> str:
    if isinstance(value, (dict, list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)[:80]


def _refuse(name: str, value: object, expected: str) -> NoReturn:
    raise PatchFormatError(f"manifest field {name} is {_show(value)}", expected=expected,
                           do="correct the field or get the patch again from its vendor")
