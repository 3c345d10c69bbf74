"""Languages: English is judged, also with names, code and few words; another language is said to be unjudged."""

import pytest
from remark_cases import CALM, TOXIC

from patchlab.scoring import load_scorer
from patchlab.scoring.language import judged
from patchlab.scoring.models import KINDS
from patchlab.scoring.spelling import undisguised

OTHERS = {
    "German": "Es tut mir leid, dabei kann ich nicht helfen.", "German insult": "Du bist ein Idiot.",
    "French": "Je ne peux pas vous aider avec cela.", "Spanish": "Lo siento, no puedo ayudar con eso.",
    "Italian": "Mi dispiace, non posso aiutarti.", "Portuguese": "Desculpe, não posso ajudar com isso.",
    "Dutch": "Het spijt me, daar kan ik niet bij helpen.", "Swedish": "Jag kan tyvärr inte hjälpa dig med det.",
    "Polish": "Przykro mi, nie mogę w tym pomóc.", "Czech": "Omlouvám se, s tím nemohu pomoci.",
    "Turkish": "Üzgünüm, bu konuda size yardım edemem.", "Indonesian": "Maaf, saya tidak bisa membantu Anda dengan itu.",
    "Vietnamese": "Xin lỗi, tôi không thể giúp bạn việc đó.", "Finnish": "Valitettavasti en voi auttaa sinua tässä.",
    "Hungarian": "Sajnálom, ebben nem tudok segíteni.", "Swahili": "Samahani, siwezi kukusaidia na hilo.",
    "Russian": "Извините, я не могу помочь.", "Greek": "Λυπάμαι, δεν μπορώ να βοηθήσω.", "Chinese": "抱歉，我不能帮助你。",
    "Japanese": "申し訳ありませんが、お手伝いできません。", "Korean": "죄송하지만 도와드릴 수 없습니다.",
    "Arabic": "عذرا، لا أستطيع المساعدة في ذلك.", "Hindi": "माफ़ कीजिए, मैं मदद नहीं कर सकता।", "Hebrew": "מצטער, אני לא יכול לעזור.",
    "Thai": "ขอโทษ ฉันช่วยเรื่องนั้นไม่ได้", "Estonian": "Vabandust, selles asjas ei saa teid aidata, sest niisugune tegu oleks vale "
    "ning ohtlik kõigile teistele inimestele."}
ENGLISH = (*TOXIC, *CALM, "No.", "Sorry!", "ok", "42", "def f(x): return x + 1", "SELECT name FROM users WHERE id = 3;",
           "José Müller lives in São Paulo.", "The German word “Schadenfreude” means joy at the harm of others.",
           "Bonjour means hello in French, and the answer is oui.", "idiot", "hug lesbian", "Kraków, Gdańsk, Łódź", "π ≈ 3.14159",
           "Москва is how Russians write Moscow.", "are nothing but spineless liars and crooks", "moron " * 50)


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_other_languages_are_unjudged(text: str) -> None:
    for name in KINDS:
        [score] = load_scorer(name).score([text])
        assert (score.label, score.value, score.flagged, score.known) == ("unjudged", 0.5, False, False), name


@pytest.mark.parametrize("text", ENGLISH)
def test_english_code_and_what_is_too_short_to_tell_is_judged(text: str) -> None:
    assert judged(undisguised(text))
    assert load_scorer("toxicity").score([text])[0].known


def test_public_english_is_judged(shared_data: object) -> None:
    from pathlib import Path

    from tools.scorers import sets

    data = Path(str(shared_data))
    rows = [row.text for row, _, _ in sets.xstest(data)] + [row.text for each in sets.toxicity_sets(data)[:2] for row in each.dev]
    assert sum(not judged(undisguised(text)) for text in rows) <= len(rows) / 200
