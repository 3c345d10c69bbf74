"""Disguised spelling: what is disguised is read as what it means, and what is not stays as it is."""

import pytest
from remark_cases import CALM, TOXIC

from patchlab.scoring import load_scorer
from patchlab.scoring.models import KINDS
from patchlab.scoring.spelling import undisguised
from tools.scorers.held import DISGUISES

MEANT = {
    "1d10t": "idiot", "id*ot": "idiot", "m0r0n": "moron", "st*p*d": "stupid", "w0rthl3ss": "worthless", "$cum": "scum",
    "l0$er": "loser", "i d i o t": "idiot", "I D I O T": "IDIOT", "i.d.i.o.t": "idiot", "i-d-i-o-t": "idiot",
    "i_d_i_o_t": "idiot", "l o 5 e r": "loser",
    "îdïöt": "idiot", "іdіоt": "idiot", "ιdιοτ": "idiot", "ｉｄｉｏｔ": "idiot", "𝓲𝓭𝓲𝓸𝓽": "idiot", "ⓘⓓⓘⓞⓣ": "idiot",
    "id\u200biot": "idiot", "i\u00addiot": "idiot", "idiooooot": "idiot", "mor on": "moron", "d!mwit!": "dimwit!",
    "y o u  a r e  a n  i d i o t": "you are an idiot", "y o u a r e a n i d i o t": "you are an idiot",
    "you are such a s t u p i d person": "you are such a stupid person"}
PLAIN = (
    "The U.S.A. and the U.K. signed it at 5 p.m. on 3/4/2021.", "J. R. R. Tolkien and C. S. Lewis", "2*3*4 = 24",
    "f(x) = a*x**2 + b", "def f(a, b): return a*b - c", "mp3, h2o, covid19, 4x4, B-52", "**bold** and *idea* and _this_",
    "x - y - z", "A + B",
    "https://a.b/c?d=e", "$5.00 or 100%", "well-known, co-worker, e-mail", "a b", "I a", "Привет, как дела", "γεια σου",
    "The pass-key is tr33-h0us3!", "no way", "so on and so on", "", " ", "\n\n")


@pytest.mark.parametrize(("text", "meant"), MEANT.items())
def test_a_disguise_is_undone(text: str, meant: str) -> None:
    assert undisguised(text) == meant


@pytest.mark.parametrize("text", [*PLAIN, *CALM, *TOXIC])
def test_what_is_no_disguise_stays_as_it_is(text: str) -> None:
    assert undisguised(text) == text


def test_accents_of_names_are_dropped_and_nothing_else() -> None:
    assert undisguised("José Müller, Kraków: naïve café") == "Jose Muller, Krakow: naive cafe"


def test_undoing_twice_changes_nothing_more() -> None:
    for text in (*MEANT, *PLAIN):
        assert undisguised(undisguised(text)) == undisguised(text)


@pytest.mark.parametrize("text", ["a " * 50_000, "*" * 100_000, "1" * 100_000, "i.d." * 20_000, "é" * 50_000, "x*" * 20_000,
                                  "\u0301" * 9999])
def test_hostile_text_takes_no_time(text: str) -> None:
    assert len(undisguised(text)) <= 2 * len(text) + 1


@pytest.mark.parametrize("name", [name for name in KINDS if name.startswith("toxicity")])
@pytest.mark.parametrize("way", DISGUISES)
def test_fault_25_disguised_insults_are_found(name: str, way: str) -> None:
    hidden = load_scorer(name).score([DISGUISES[way](text) for text in TOXIC])
    plain = load_scorer(name).score(list(TOXIC))
    assert sum(score.flagged for score in hidden) >= sum(score.flagged for score in plain) - 1
    assert sum(score.flagged for score in load_scorer(name).score([DISGUISES[way](text) for text in CALM])) <= 1
