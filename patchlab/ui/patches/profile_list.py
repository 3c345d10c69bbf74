"""The profiles of the server for this base, as HTML: what each pins, whether that is installed, and the file to download."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from patchlab.errors import PatchLabError
from patchlab.registry.index import home_folder
from patchlab.registry.profiles import PROFILES, check_profile, find_profiles
from patchlab.ui import copy
from patchlab.ui.diff import escaped
from patchlab.ui.patches import patches_words
from patchlab.ui.patches.patch_cards import without_paths
from patchlab.validation import dump

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.patches.profile import Profile

_MODES = {name: words for words, name in copy.MODES}


def profiles(lab: Lab) -> str:
    """The section of the profiles."""
    found, broken = find_profiles(lab.base.fingerprints)
    home = home_folder() / PROFILES
    told = "".join(f'<p class="note bad">{escaped(without_paths(words, [home / "x"]))}</p>' for words in broken)
    none = f'<p class="note">{patches_words.NO_PROFILE} <code>{patches_words.PROFILE_COMMAND}</code></p>'
    return ("".join(_profile(lab, each) for each in found.values()) or none) + told


def _profile(lab: Lab, profile: Profile) -> str:
    try:
        check_profile(profile, lab.registry)
        state = f'<span class="pill good">{patches_words.HOLDS}</span>'
    except PatchLabError as error:
        words = copy.sentence(without_paths(str(error), [each.folder for each in lab.registry.list()]))
        state = f'<span class="pill bad">{patches_words.FAILS}</span> <span class="note">{escaped(words)}</span>'
    pins = "".join(f"<li><code>{escaped(each.name)}</code> {escaped(each.version)}, strength {each.strength:g}, digest "
                   f"<code>{escaped(each.digest[:12])}</code></li>" for each in profile.patches)
    how = f"{_MODES[profile.mode]}, gates {'on' if profile.gates else 'off'}"
    data = base64.b64encode((json.dumps(dump(profile), indent=2) + "\n").encode()).decode()
    name = escaped(profile.name)
    return (f'<article class="patch-card profile"><header><h3>{name}</h3><p class="patch-name">{escaped(how)}</p>{state}</header>'
            f'<ul>{pins}</ul><footer><a class="download" download="{name}.json" href="data:application/json;base64,{data}">'
            f"{patches_words.DOWNLOAD} {name}.json</a></footer></article>")
