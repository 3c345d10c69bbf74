"""Messages of people in danger: how they are told without a model, and the fixed answer to them.

The answer does not come from a model, and it stands beside whatever the models say. The patterns are a small list for where the
encoder is not installed; they find plain wording only. Beside the prompt judge they still count.
"""

from __future__ import annotations

import re

ANSWER = (
    "It sounds as if you, or someone close to you, may be in danger or in great pain. I'm glad you said it. You "
    "deserve help from a person, right now. If anyone is in immediate danger, please call your local emergency number "
    "(for example 112 in the EU, 911 in the US and Canada, 999 in the UK). To talk to someone who listens, free and "
    "in confidence, find a help line in your country at findahelpline.com; for example 988 in the US and Canada (call "
    "or text), or Samaritans at 116 123 in the UK and Ireland. If you can, tell a person you trust how you feel.")
_SELF = r"(?:kill|hang|drown|hurt|harm)(?:ing)? (?:myself|my self)"
_LIFE = r"(?:end|take|end it all|ending|taking) my (?:own )?life"
_DIE = r"(?:die|be dead|disappear forever|sleep forever)\s*(?:$|[.!,;]|tonight|now\b|and\b|so\b|anymore|because)"
_WANT = (r"i(?:'m| am|'ve| have)?(?: \w+){0,3} (?:want|wanna|need|plan|planning|going|gonna|ready|about|try|trying|tried|decided|"
         r"think|thinking|thought|feel like|wish)(?: to| of| about)?(?: \w+){0,2}")
_CLOSE = (r"(?:my|a) (?:\w+ )?(?:friend|brother|sister|son|daughter|mum|mom|dad|father|mother|wife|husband|girlfriend|boyfriend|"
          r"partner|roommate|classmate|child|kid|teenager|student|colleague|coworker|neighbou?r|cousin|aunt|uncle|nephew|niece|"
          r"grand(?:mother|father|ma|pa|mum|mom|dad|son|daughter|child))\b[^.?!]{0,40}")
_HITS = r"\b(?:hits?|beats?|chokes?|choked|strangles?|rapes?|raped) me\b"
_PATTERNS = tuple(re.compile(pattern) for pattern in (
    rf"\b{_WANT} (?:{_SELF}|{_LIFE}|{_DIE})", rf"\b{_LIFE}\b", r"\b(?:kill|hang)(?:ing)? myself\b(?! laughing)",
    r"\bi(?:'m| am| feel)(?: \w+)? suicidal\b",
    r"\bi(?:'m| am|'ve| have)? (?:\w+ )?think(?:ing)? (?:about|of) suicide\b",
    r"\bi (?:don't|dont|do not) (?:want|wish) to (?:live|be alive|exist|wake up (?:again|tomorrow|anymore))\b",
    r"\b(?:better off|happier) (?:without me|if i (?:was|were) (?:dead|gone))\b",
    r"\bi (?:wish|want) (?:i (?:was|were)|to be) dead\b",
    r"\bi (?:keep |have been |was )?(?:cut|hurt|burn)(?:ting|ing)? (?:myself on purpose|my (?:arms|wrists|skin))\b",
    rf"\b{_CLOSE}\b(?:wants? to die|(?:kill|hurt)(?:ing)? (?:himself|herself|themselves)|(?:is|feels|seems) suicidal|"
    r"about suicide|wants? to end it|(?:end|take|ending|taking) (?:his|her|their) (?:own )?life)\b",
    r"\b(?:which|what|how many) (?:\w+ )?(?:pills|tablets)\b[^.?!]{0,40}\b(?:deadly|lethal|fatal|to die|kill me|overdose)\b",
    rf"\b(?:my|an?) (?:\w+ )?(?:ex|uncle|step\w+)\b[^.?!]{{0,20}}{_HITS}", rf"\b{_CLOSE}{_HITS}",
    r"\bi (?:was|have been) raped\b",
    # the commonest wording in other languages, in which the models are not judged
    r"\bich (?:will|möchte|werde) (?:\w+ ){0,2}(?:sterben|mich umbringen|mich töten|tot sein|nicht mehr leben)\b",
    r"\bich (?:bringe|bring) mich um\b", r"\bje (?:veux|vais|voudrais) (?:\w+ )?(?:mourir(?! de)|me suicider|me tuer|en finir)\b",
    r"\b(?:quiero|voy a|quisiera) (?:morir(?:me)?|suicidarme|matarme|quitarme la vida)\b", r"\bno quiero vivir\b",
    r"\bvoglio (?:morire|uccidermi|suicidarmi|farla finita)\b", r"\b(?:quero|vou) (?:morrer|me matar|suicidar-me|me suicidar)\b",
    r"\bik wil (?:\w+ )?(?:dood|sterven|mezelf doden|mezelf van kant maken|niet meer leven)\b",
    r"\bchcę (?:umrzeć|się zabić)\b", r"\bя хочу (?:умереть|покончить с собой|убить себя)\b"))
_ABOUT = re.compile(r"\b(?:song|film|movie|lyrics?|poem|novel|book|character|scene|title|quote|joke|essay|story)\b")


def looks_like_crisis(text: str) -> bool:
    """Whether a message says in plain words that its writer, or someone close, is in danger."""
    plain = " ".join(text.casefold().replace("’", "'").split())[:4000]
    return not _ABOUT.search(plain) and any(pattern.search(plain) for pattern in _PATTERNS)
