"""The manifest of a patch, patch.json, as a frozen value. Reads no files and no tensors.

The constructor checks every field, so a Manifest that exists is valid and can be read again once written.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, FailFast, Field
from pydantic.dataclasses import dataclass

from patchlab.errors import PatchFormatError
from patchlab.records import Measure
from patchlab.validation import STRICT, Unfit, checked, dump, is_line, one_line, parse, such

SCHEMA: Literal[1] = 1
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
FILES = (CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, MANIFEST_FILE)  # in every patch folder
OPTIONAL = (GATE_FILE, CURVE_FILE)

NAME = re.compile(r"(?=.{1,64}\Z)[a-z][a-z0-9]*(-[a-z0-9]+)*")
RESERVED_NAME = "none"  # the text form of the empty stack
_NUMBER = r"(0|[1-9][0-9]*)"
_TAG = r"(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
VERSION = re.compile(
    rf"(?=.{{1,64}}\Z){_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_TAG}(\.{_TAG})*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_IDENTITY = re.compile(r"[0-9A-Za-z:._/+=-]{1,256}")


def is_name(text: str) -> bool:
    """Whether `text` is a patch name: at most 64 lower-case letters, digits and single hyphens, and not "none"."""
    return NAME.fullmatch(text) is not None and text != RESERVED_NAME


def is_version(text: str) -> bool:
    """Whether `text` is a semantic version (semver.org 2.0.0) of at most 64 characters."""
    return VERSION.fullmatch(text) is not None


def version_key(version: str) -> tuple[Any, ...]:
    """The sort key of a patch's versions: every pre-release before every release, so that the preferred version is the last.

    Within both groups the order is that of semantic versioning (semver.org 2.0.0, section 11); build tags break ties.
    """
    core, _, build = version.partition("+")
    release, _, tags = core.partition("-")
    ranked = tuple((0, int(tag), "") if tag.isdigit() else (1, 0, tag) for tag in tags.split(".") if tag)
    return (not ranked, *map(int, release.split(".")), ranked, build)


def _is_reference(text: str) -> bool:
    name, at, version = text.partition("@")
    return is_name(name) and (is_version(version) if at else True)


def check_measure(measure: Measure) -> Measure:
    """Return the measure unchanged. Raises Unfit naming the first field that is empty, not finite or out of range."""
    for name in ("suite", "lane", "metric", "scorer"):
        text = getattr(measure, name)
        if not is_line(text, 256):
            raise Unfit("one line of 1 to 256 printable characters", field=name, found=repr(text)[:80])
    for name in ("value", "low", "high"):
        if not abs(getattr(measure, name)) < 1e300:  # also false for NaN
            raise Unfit("a finite number", field=name, found=repr(getattr(measure, name)))
    if measure.low > measure.high:
        raise Unfit("an interval from low to high", found=f"low {measure.low:g} over high {measure.high:g}")
    if not 1 <= measure.n <= 2**53:
        raise Unfit("a whole number of at least 1", field="n", found=str(measure.n))
    return measure


Line = Annotated[str, one_line(256)]
Identity = Annotated[str, such(lambda text: bool(_IDENTITY.fullmatch(text)), "at most 256 letters, digits and :._/+=-")]
Perhaps = Annotated[str, such(lambda text: not text or bool(_IDENTITY.fullmatch(text)),
                              "at most 256 letters, digits and :._/+=-, or empty")]
Named = Annotated[tuple[Annotated[str, such(_is_reference, "patches as 'name' or 'name@version'")], ...],
                  Field(max_length=MAX_MEASURES), FailFast()]
Figure = Annotated[Measure, AfterValidator(check_measure)]
Sha256 = Annotated[str, such(lambda text: bool(_DIGEST.fullmatch(text)), "a sha256 in hex")]
Files = dict[Annotated[str, such(lambda name: name in (*FILES, *OPTIONAL), f"only {', '.join((*FILES, *OPTIONAL))}")], Sha256]
# a Measure is a plain dataclass, whose field types are only checked when it becomes part of a manifest
_CONFIG = STRICT | {"revalidate_instances": "always"}
_DO = "correct the field or get the patch again from its vendor"


@checked("manifest", do=_DO, error=PatchFormatError)
@dataclass(frozen=True, slots=True, config=STRICT)
class BaseIdentity:
    """The base a patch was made for: `id` and `revision` for readers, fingerprint and digests for comparison with a loaded base.

    `revision` and `template_digest` are empty for a base without them. Raises PatchFormatError.
    """

    id: Line
    revision: Perhaps
    fingerprint: Identity
    tokenizer_digest: Identity
    template_digest: Perhaps


@checked("manifest", do=_DO, error=PatchFormatError)
@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Manifest:
    """The contents of patch.json.

    `length` is P, `width` is D, `strength` is the calibrated default in (0, 4]. `supersedes` and `conflicts` list patches
    as "name" or "name@version". `files` maps each file of a saved patch to its sha256 and is empty before the first save.
    Raises PatchFormatError naming the invalid field.
    """

    schema: Literal[1] = SCHEMA
    name: Annotated[str, such(is_name, "lower-case letters, digits and single hyphens, such as 'toxicity'")]
    version: Annotated[str, such(is_version, "a semantic version such as 1.0.0")]
    title: Annotated[str, one_line(120)]
    summary: Annotated[str, one_line(2000)]
    domain: Annotated[str, such(lambda text: bool(NAME.fullmatch(text)), "one word such as 'toxicity', 'bias' or 'refusal'")]
    base: BaseIdentity
    reference: Line
    placement: Literal["prefix"] = "prefix"
    length: Annotated[int, Field(ge=1, le=MAX_LENGTH)]
    width: Annotated[int, Field(ge=1, le=MAX_WIDTH)]
    strength: Annotated[float, Field(gt=0, le=MAX_STRENGTH)] = 1.0
    recipe_digest: Perhaps = ""
    evidence: Annotated[tuple[Figure, ...], Field(max_length=MAX_MEASURES), FailFast()] = ()
    supersedes: Named = ()
    conflicts: Named = ()
    licence: Annotated[str, one_line(100)]
    files: Files = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.length * self.width * 4 > MAX_PREFIX_BYTES:
            raise Unfit(f"at most {MAX_PREFIX_BYTES // 2**20} MiB as float32", field="length x width",
                        found=f"{self.length} x {self.width}")

    @property
    def folder_name(self) -> str:
        """The name of the patch's folder, such as "toxicity-1.0.0"."""
        return f"{self.name}-{self.version}"

    @property
    def digest(self) -> str:
        """The sha256 of the saved patch without its signature; empty before the first save."""
        return self.files.get(MANIFEST_FILE, "")

    @property
    def gated(self) -> bool:
        """Whether the saved patch has a gate."""
        return GATE_FILE in self.files

    @property
    def order(self) -> tuple[Any, ...]:
        """The sort key of the version, see `version_key`."""
        return version_key(self.version)

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values, keys in a fixed order."""
        return dump(self) | {"files": dict(sorted(self.files.items()))}

    @classmethod
    def from_json(cls, data: bytes, *, where: str = MANIFEST_FILE) -> Manifest:
        """Parse the bytes of a patch.json; `where` names the file in errors. Raises PatchFormatError."""
        return parse(cls, data, where=where, schema=SCHEMA)
