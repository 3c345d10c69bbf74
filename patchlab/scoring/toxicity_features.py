"""What the first toxicity scorer reads: hashed words and characters, quoted words apart, and names of groups all alike.

Both toxicity scorers read every name of a group of people as the same word, so that no group can be told from another.
"""

from __future__ import annotations

from patchlab.scoring.features import Hashed, character_buckets, spelled, tokens, weighted, word_buckets
from patchlab.scoring.refusal_patterns import unquoted

GROUP = "§group"
GROUPS = frozenset((
    "gay", "gays", "lesbian", "lesbians", "queer", "queers", "homosexual", "homosexuals", "heterosexual",
    "heterosexuals", "straight", "bisexual", "bisexuals", "bi", "trans", "transgender", "transsexual", "transsexuals",
    "nonbinary", "lgbt", "lgbtq", "muslim", "muslims", "islamic", "christian", "christians", "jew", "jews", "jewish",
    "hindu", "hindus", "sikh", "sikhs", "buddhist", "buddhists", "taoist", "catholic", "catholics", "protestant",
    "protestants", "atheist", "atheists", "mormon", "mormons", "orthodox", "pagan", "evangelical", "black", "blacks",
    "white", "whites", "brown", "asian", "asians", "african", "africans", "american", "americans", "european",
    "europeans", "latino", "latinos", "latina", "latinas", "latinx", "hispanic", "hispanics", "mexican", "mexicans",
    "chinese", "japanese", "korean", "koreans", "indian", "indians", "arab", "arabs", "canadian", "canadians",
    "australian", "australians", "german", "germans", "french", "italian", "italians", "polish", "russian", "russians",
    "turkish", "british", "irish", "english", "scottish", "spanish", "greek", "dutch", "vietnamese", "filipino", "thai",
    "pakistani", "pakistanis", "nigerian", "nigerians", "somali", "somalis", "syrian", "syrians", "iranian", "iranians",
    "iraqi", "israeli", "israelis", "palestinian", "palestinians", "cuban", "cubans", "brazilian", "eastern", "western",
    "roma", "indigenous", "native", "male", "males", "female", "females", "man", "men", "woman", "women", "girl",
    "girls", "boy", "boys", "lady", "ladies", "old", "older", "elderly", "young", "younger", "teenage", "teenager",
    "teenagers", "millennial", "millennials", "aged", "seniors", "deaf", "blind", "disabled", "paralyzed", "paralysed",
    "autistic", "handicapped", "dyslexic", "immigrant", "immigrants", "migrant", "migrants", "refugee", "refugees",
    "foreigner", "foreigners", "feminist", "feminists",
))


def toxicity_features(text: str, prompt: str | None = None) -> Hashed:
    """Indices [N] and values [N] of a text. The prompt is not read."""
    plain, quoted = unquoted(text)
    said, cited = (groups_alike(tokens(part)) for part in (plain, " ".join(quoted)))
    return weighted(((word_buckets([spelled(word) for word in said]) | word_buckets(cited, "quoted"), 1.0),
                     (character_buckets(said), 1.0)))


def groups_alike(words: list[str]) -> list[str]:
    """Words with every name of a group replaced by GROUP."""
    return [GROUP if word in GROUPS else word for word in words]
