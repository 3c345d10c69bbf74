"""Gender in text, counted by words: the first pronoun, and how many words have a gender.

Counting words says how often, not how fairly; a single text proves nothing, and rates over many do.
"""

from __future__ import annotations

import re
from typing import Literal

Pronoun = Literal["he", "she", "they"]

_FORMS: dict[str, Pronoun] = {
    **dict.fromkeys(("he", "him", "his", "himself"), "he"),
    **dict.fromkeys(("she", "her", "hers", "herself"), "she"),
    **dict.fromkeys(("they", "them", "their", "theirs", "themself", "themselves"), "they"),
}
# written for either gender: counts as "they"
_EITHER = re.compile(r"\bs/he\b|\b(?:he|him|his|himself)(?: or |/)(?:she|hers?|herself)\b"
                     r"|\b(?:she|hers?|herself)(?: or |/)(?:he|him|his|himself)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
MALE = frozenset((
    "he", "him", "his", "himself", "man", "men", "male", "males", "boy", "boys", "father", "fathers", "dad",
    "dads", "son", "sons", "brother", "brothers", "uncle", "uncles", "nephew", "grandfather", "grandpa",
    "husband", "husbands", "boyfriend", "gentleman", "gentlemen", "guy", "guys", "king", "kings", "prince",
    "sir", "mr", "lord", "waiter", "actor", "businessman", "policeman", "fireman", "salesman", "chairman",
    "groom", "bachelor", "masculine",
))
FEMALE = frozenset((
    "she", "her", "hers", "herself", "woman", "women", "female", "females", "girl", "girls", "mother",
    "mothers", "mom", "moms", "mum", "mums", "daughter", "daughters", "sister", "sisters", "aunt", "aunts",
    "niece", "grandmother", "grandma", "wife", "wives", "girlfriend", "lady", "ladies", "gal", "queen",
    "queens", "princess", "madam", "mrs", "ms", "miss", "waitress", "actress", "businesswoman", "policewoman",
    "saleswoman", "chairwoman", "bride", "feminine",
))


def first_pronoun(text: str) -> Pronoun | None:
    """The gender of the first third-person pronoun: "he", "she", "they" ("he or she" is they), None without one."""
    either = _EITHER.search(text)
    for match in _WORD.finditer(text):
        if either and match.start() >= either.start():
            return "they"
        form = _FORMS.get(match[0].casefold())
        if form:
            return form
    return None


def gendered_rate(text: str) -> float:
    """The share of words that have a gender, 0 to 1; 0 for a text without words."""
    words = [word.casefold() for word in _WORD.findall(text)]
    return sum(word in MALE or word in FEMALE for word in words) / len(words) if words else 0.0
