"""The settings in an address: query and back, and addresses that somebody made up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchlab.errors import InputError
from patchlab.patches.stack import MODES, Entry
from patchlab.ui.share.link_codec import LONGEST, LinkPatch, LinkSettings, parsed, query

WORDS = st.text(max_size=60)
STRENGTHS = st.floats(0, 4)
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,6})?", fullmatch=True).filter(lambda name: name != "none")
ENTRIES = st.builds(Entry, NAMES, st.none() | STRENGTHS, st.sampled_from([None, "1.0.0", "2.1.0-rc.1"]))
PATCHES = st.lists(st.builds(LinkPatch, ENTRIES, st.booleans()), max_size=6, unique_by=lambda each: each.entry.name).map(tuple)
SETTINGS = st.builds(LinkSettings, **{name: st.none() | values for name, values in {
    "prompt": WORDS, "kind": st.sampled_from(["chat", "continue"]), "system": WORDS, "patches": PATCHES,
    "mode": st.sampled_from(MODES), "strength": STRENGTHS, "gates": st.booleans(), "temperature": st.floats(0, 1.5),
    "length": st.integers(1, 1000), "seed": WORDS, "samples": st.integers(1, 20), "preset": WORDS, "profile": WORDS, "tab": WORDS,
    "run": st.booleans()}.items()})
HOSTILE = ["?prompt=%00%ff%f0", "?patches=../../etc/passwd", "?patches=a:1,a:2", "?patches=~", "?patches=,,", "?mode=<script>",
           "?temperature=nan", "?temperature=1e999", "?length=9" + "9" * 5000, "?gates=yes", "?" + "a=1&" * 200,
           "?strength=0x1&kind=system&samples=two", "?patches=" + ",".join(f"p{n}:1" for n in range(100)), "?" + "x" * 20_000]


@given(SETTINGS)
@settings(deadline=None)
def test_a_link_says_all_and_nothing_else(made: LinkSettings) -> None:
    assert parsed("?" + query(made)) == (made, [])


@given(st.text(max_size=300))
@settings(deadline=None)
def test_no_query_is_an_error(text: str) -> None:
    settings, left = parsed(text)
    assert isinstance(settings, LinkSettings) and all(len(words) < 120 for words in left)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_not_understood_is_said_in_a_few_words_and_left_out(text: str) -> None:
    found, left = parsed(text)
    assert (found == LinkSettings() and left) or found == LinkSettings(prompt="\x00\ufffd\ufffd")
    assert all(len(words) < 120 for words in left)


def test_a_link_is_no_longer_than_a_proxy_takes() -> None:
    assert len(query(LinkSettings(prompt="a" * (LONGEST - 7)))) == LONGEST
    with pytest.raises(InputError, match="shorten the prompt"):
        query(LinkSettings(prompt="a" * (LONGEST - 6)))


def test_a_short_link_asks_at_once_and_what_networks_add_is_nobodys_business() -> None:
    assert parsed("?ask=Why%3F&kind=chat&__theme=dark&utm_source=x&fbclid=1&view=walkthrough") == (
        LinkSettings(prompt="Why?", kind="chat", run=True), [])
    assert parsed("?colour=red&kind=song") == (LinkSettings(), ["“colour”", "kind=“song”"])
