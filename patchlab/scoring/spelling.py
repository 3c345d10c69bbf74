"""Disguised spelling undone: `1d10t`, `id*ot`, `i d i o t`, `îdïöt`, invisible and look-alike letters are read as `idiot`.

Scorers read what `undisguised` returns and nobody is shown it. Letters are only filled in, and words only put together from
parts, where the result is one of INSULTS; numbers, code, abbreviations and words in their own script stay as they are.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import product
from string import ascii_lowercase
from zlib import crc32

from patchlab.scoring.language import ENGLISH

_WORDS = """
airhead airheads annoying ape apes arrogant awful backstabber bastard bastards blockhead blockheads bonehead boring bozo
brainless brat brats brute brutes buffoon buffoons bully bullies butthead cheat cheater cheats childish chump clown clowns
clueless cockroach cockroaches contemptible corrupt coward cowardly cowards crap crappy crazy creep creeps creepy cretin cretins
crook crooks crybaby damn deadbeat deluded demented despicable detestable dimwit dimwits dirtbag dirtbags disgrace disgraceful
disgusting dishonest dolt dolts donkey donkeys doofus dork dorks dreadful dumb dumbass dumber dumbest dummies dummy dunce dunces
embarrassing evil failure failures fathead filth filthy fool foolish fools fraud frauds freak freaks garbage ghastly goons
greedy gross grotesque gutless halfwit halfwits hate hated hateful hideous hopeless horrible horrid hypocrite hypocrites idiot
idiotic idiots ignoramus ignorant imbecile imbeciles immature incompetent inept inferior insane insufferable jackass jerk jerks
kill knucklehead lame laughable lazy leech leeches liar liars loathsome loser losers lousy lowlife lowlifes lunatic lunatics
maggot maggots mediocre miserable monster monsters moron moronic morons muppet muppets nasty nitwit nitwits numbskull numbskulls
oaf obnoxious parasite parasites pathetic peasant pests pig piggish pigs pinhead psycho puny rat rats repulsive revolting
ridiculous rotten rubbish rude scoundrel scum scumbag scumbags selfish shameful shameless shut sick simpleton simpletons skunk
sleazy slimeball slimy slob slobs sloppy snake snakes snob snobs spineless stink stinking stinks stinky stupid stupider
stupidest stupidity suck sucks swine terrible thief thieves thug thugs toad toads trash trashy twerp twerps twit twits ugliest
ugly useless vermin vile waste wasteful weakling weasel weasels weird weirdo weirdos wicked wimp wimps witless worm worms
worthless wretch wretched wretches
"""
INSULTS = frozenset(_WORDS.split())
_SWEARING = frozenset((  # crc32 of swear words, which stand in no list here
    0xcc614ca6, 0xcae09fd2, 0x73199c6c, 0x3dbf7a3b, 0x1c3de73e, 0xb651226f, 0xf6fbde46, 0x8447d070, 0x46b6cf53, 0xc9986a36,
    0xe92a798a, 0xf9835dcc, 0x611964d4, 0x95cdd185, 0x86497575, 0x73fe0531, 0x1c8600e3, 0xd1eed0d2, 0xc063859c, 0x2d700fde,
    0xfd5d2f3d, 0x439bde35, 0xe26aef2f, 0x1c23dabc, 0xbf2979c1, 0x3a4de924, 0x10181690))
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
                        "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e01ef]")
_PAIRS = """
аa сc еe оo рp хx уy іi јj ѕs ԁd һh кk мm тt вb нh гr иu ӏl ԛq ԝw ҽe пn ьb лl дd бb чy αa βb εe ιi κk νv οo ρp τt υu χx ηn ωw γy
δd λl σo ςs πn μu θo ζz ɑa ɡg ıi ʟl ɪi ɴn ʀr ᴀa ᴄc ᴅd ᴇe ᴊj ᴋk ᴍm ᴏo ᴘp ᴛt ᴜu ᴠv ᴡw ᴢz ɢg ʜh ʙb ʏy ꜱs АA ВB ЕE ЗE КK МM НH ОO РP
СC ТT УY ХX ІI ЈJ ЅS ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX łl ŁL øo ØO đd ħh ŧt ƒf ꞓc ʋv ɩi оo ոn օo սu ցg հh զq
"""
_SIMILAR = {ord(pair[0]): pair[1] for pair in _PAIRS.split()}
_LEET = {"0": "o", "1": "il", "3": "e", "4": "a", "5": "s", "6": "g", "7": "t", "8": "b", "9": "g", "@": "a", "$": "s", "!": "il",
         "|": "il", "+": "t", "€": "e", "£": "l", "(": "c", "¡": "i", "¢": "c", "¥": "y"}
_MASK = re.compile(r"[*#%_\-.?•·×~^=/\\]+")
_AROUND = "\"'“”‘’()[]{},;:.?!…<>"
_EMPHASIS = "*_~`"
_SPACED = re.compile(r"(?<![^\W_])(?<![^\W_][.\-_*~•·/|+'’])[^\W_](?:[ .\-_*~•·/|+]{1,3}[^\W_]){2,}(?![^\W_]|['’]\w)")
_WORD = re.compile(r"[^\W\d_]+")
_RUN = re.compile(r"([^\W\d_])\1{2,}")
_DOUBLE = re.compile(r"(.)\1+")
_ONCE = {_DOUBLE.sub(r"\1", word): word for word in sorted(INSULTS)}  # every letter of a run once
_LISTED = " ".join(sorted(INSULTS))
SHORTEST = 5  # letters of a word written apart that is not one of INSULTS
LONGEST = 30  # characters of a word that may be a disguise


def undisguised(text: str) -> str:
    """The text with plain letters and disguised insults spelled out; a text without either comes back as it is."""
    if not text.isascii():
        text = _plain_letters(text)
    text = " ".join(part if part.isalpha() else _word(part) for part in text.split(" "))
    text = _SPACED.sub(_together, text)
    if _RUN.search(text):
        text = _WORD.sub(lambda found: _ONCE.get(_DOUBLE.sub(r"\1", found[0].lower()), found[0])
                         if _RUN.search(found[0]) else found[0], text)
    return _joined_halves(text)


def _plain_letters(text: str) -> str:
    """The text without invisible characters and accents on Latin letters, its look-alike letters as Latin ones."""
    text = unicodedata.normalize("NFKD", _INVISIBLE.sub("", text))
    kept: list[str] = []
    for letter in text:
        if not (unicodedata.combining(letter) and kept and kept[-1].isascii()):
            kept.append(letter)
    return _WORD.sub(_latin, unicodedata.normalize("NFC", "".join(kept)))


def _latin(found: re.Match[str]) -> str:
    """A word of mixed letters, or one that is an English word by its look, in Latin letters."""
    word = found[0]
    if word.isascii():
        return word
    seen = word.translate(_SIMILAR)
    mixed = any(letter.isascii() for letter in word)
    return seen if seen.isascii() and (mixed or seen.lower() in INSULTS or seen.lower() in ENGLISH) else word


def _together(found: re.Match[str]) -> str:
    """Letters written apart as words: at the wider gaps, or where known words end."""
    run = found[0]
    gaps = re.findall(r"[^\w]+|_+", run)
    letters = [letter for letter in run if letter.isalnum()]
    if sum(letter.isalpha() for letter in letters) < 0.6 * len(letters):
        return run
    if len(letters) < SHORTEST and "".join(letters).lower() not in INSULTS:
        return run  # an abbreviation or a formula
    least = min(map(len, gaps), default=1)
    words = letters[0]
    for gap, letter in zip(gaps, letters[1:], strict=True):
        words += (" " if len(gap) > least else "") + letter
    return " ".join(_unmasked(word.lower()) or _divided(word) for word in words.split(" "))


def _divided(letters: str) -> str:
    """Letters as the fewest known words, or as they are where more than a fifth of them belong to none."""
    lowered, size = letters.lower(), len(letters)
    best: list[tuple[float, int, int]] = [(0.0, 0, 0)]  # cost, letters of no word, where the last word begins
    for end in range(1, size + 1):
        cost, unknown, _ = best[end - 1]
        options = [(cost + 3, unknown + 1, end - 1)]
        for start in range(max(0, end - 14), end):
            if lowered[start:end] in ENGLISH or lowered[start:end] in INSULTS:
                options.append((best[start][0] + 1, best[start][1], start))
        best.append(min(options))
    if best[size][1] > size / 5:
        return letters
    words, end = [], size
    while end:
        words.append(letters[best[end][2]:end])
        end = best[end][2]
    return " ".join(reversed(words))


def _word(part: str) -> str:
    """A part between spaces with the masked word in it spelled out."""
    core = part.strip(_AROUND)
    if len(core) < 4 or len(core) > LONGEST or core.isalpha() or core.isdigit():
        return part
    found = _unmasked(core.lower()) or _unmasked(core.lower().strip(_EMPHASIS))
    return part.replace(core, found) if found else part


@lru_cache(maxsize=20_000)
def _unmasked(word: str) -> str | None:
    """The insult that a word of letters, digits that look like letters, and masks can stand for."""
    seen = sum(letter.isalpha() or letter in _LEET for letter in word)
    if sum(letter.isalpha() for letter in word) < 2 or seen < 2 or word.isalpha():
        return None
    pattern, at = "", 0
    for mask in (*_MASK.finditer(word), None):
        start, end = mask.span() if mask else (len(word), len(word))
        pattern += "".join(f"[{_LEET[letter]}]" if letter in _LEET else re.escape(letter) for letter in word[at:start])
        if mask:
            size = end - start
            inside = start > 0 and end < len(word)
            pattern += f"[a-z]{{0,{size + 1}}}" if inside and seen > 2 else f"[a-z]{{{size}}}"
        at = end
    found = re.search(rf"(?<![a-z]){pattern}(?![a-z])", _LISTED)
    return found[0] if found else _swearing(word)


def _swearing(word: str) -> str | None:
    """The swear word that a word with one or two masked letters stands for."""
    parts = re.split(r"[*#%_\-.@!]", word)
    if not 2 <= len(parts) <= 3 or not "".join(parts).isalpha():
        return None
    for letters in product(ascii_lowercase, repeat=len(parts) - 1):
        whole = "".join(part + letter for part, letter in zip(parts, (*letters, ""), strict=True))
        if crc32(whole.encode()) in _SWEARING:
            return whole
    return None


def _joined_halves(text: str) -> str:
    """Two halves of an insult beside each other as one word."""
    words: list[str] = []
    for word in text.split(" "):
        whole = (words[-1].lstrip(_AROUND) + word.rstrip(_AROUND)).lower() if words else ""
        if len(whole) > 4 and whole in INSULTS and words[-1] and word and words[-1].lower() not in INSULTS:
            words[-1] += word
        else:
            words.append(word)
    return " ".join(words)
