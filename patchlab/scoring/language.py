"""Whether a text is in a language that the embedded scorers know: English, or too short to tell.

Scorers were fitted on English. Text in another language is not clear and not flagged but *unjudged*. A language is told by its
script and by its commonest words; a longer text with none of the commonest English words is not English, whatever it is.
"""

from __future__ import annotations

import re
import unicodedata

# the commonest words of English; they count for no other language
_COMMON = """
a about after again all also always am an and another any are aren't around as ask asked at away back be became because been
before being best better between big both but by came can can't cannot come could couldn't day did didn't do does doesn't doing
don't done down each even ever every everyone everything feel few find first for found from gave get gets give given go goes
going good got great had hand has have haven't having he he's hear help her here here's hers him his how however i i'd i'll i'm
i've if important in into is isn't it it's its just keep know known last left less let let's life like little long look looks
lot love made make makes man many maybe me mean might mine more most much must my never new next no nobody nothing now of off
often oh old on once one only or other others our out over own part people person please put quite read really right said same
saw say says see seem seems she she's should show since so some someone something sorry still such sure take tell than thank
thanks that that's the their them then there there's these they they're thing things think this those though thought through
time to today together too took try two under until up upon us use used using very want wants was wasn't way we we're we've well
went were what what's when where which while who who's whole why will with without won't word words work world would wouldn't
year years yes yet you you'd you'll you're you've your yours yourself
"""
ENGLISH = frozenset(_COMMON.split())
_OTHERS = {name: frozenset(words.split()) for name, words in {
    "German":
        "der das und ist nicht ich du er sie es ein eine einen einem einer mit von zu dem den auf fur auch sich wie aber oder"
        " wenn kann konnen sind wird hat haben bin bist wir ihr mir mich dir dich euch uns nur noch schon bei nach aus uber um"
        " im ja nein kein keine keinen sehr tut leid dabei helfen hier diese dieser dieses mein meine dein deine sein seine vor"
        " weil dass leider bitte danke geht gibt muss soll sollte alle immer wieder zum zur vom als",
    "French":
        "le la les des et est une un du que qui dans pour pas sur avec ce cette ces il elle je tu nous vous ils elles mais ou"
        " ne se son sa ses leur leurs plus tout tous au aux mon ma mes ton ta tes votre vos notre nos etre suis es sommes etes"
        " sont avoir ai as avons avez ont peux peut pouvez puis fait faire desole cela ca comme bien tres aussi sans si non oui"
        " merci c'est j'ai n'est d'un d'une qu'il quel quelle toi moi lui chez etait bonjour",
    "Spanish":
        "el la los las de y que en un una es por con para se su sus lo le les como pero mas este esta estos estas esto eso esa"
        " ese yo tu ella nosotros ustedes ellos soy eres somos son estoy estan ser tener tengo tiene puedo puede puedes hacer"
        " muy tambien porque cuando donde quien siento ayudar ayudarte del al si mi mis te nos ha he hay fue todo todos nada"
        " nunca siempre gracias hola desde hasta sobre entre sin",
    "Italian":
        "il lo gli le di che e un una per con non sono sei siamo siete e' della delle del dei degli nel nella alla al dal dalla"
        " sul questo questa questi queste quello quella mi ti ci vi si mio mia tuo tua suo sua loro noi voi io tu lui lei ma"
        " anche come quando dove perche piu molto posso puo puoi fare essere avere ho hai ha abbiamo hanno dispiace aiutare"
        " aiutarti grazie ciao cosa tutto tutti niente mai sempre ogni",
    "Portuguese":
        "o os um uma uns umas de do da dos das em na nos nas que e para por com nao se eu tu ele ela voce voces eles elas meu"
        " minha seu sua seus suas isso isto este esta esse essa mas mais muito tambem como quando onde quem porque sou es somos"
        " sao estou estamos estao ser ter tenho tem posso pode fazer desculpe ajudar ao pelo pela foi ate ja obrigado",
    "Dutch":
        "de het een en van ik je jij hij zij wij jullie dat niet te zijn aan met voor op er maar om hem dan zou wat mijn dit"
        " ook bij naar heb heeft hebben kan kunnen kon moet wordt worden geen nog wel deze die uit over als jouw uw ons onze hun"
        " ben bent helpen daar daarmee sorry kunt dus omdat waar wie hoe veel",
    "Swedish, Danish or Norwegian":
        "och att det som en ett den jag du han hon vi ni de inte ikke og er pa av til till med om har hade kan kunna skal ska"
        " vil vill var varit men sa hvad vad mig meg dig deg sig seg min din sin denne detta dette disse dessa ingen ikkje eg"
        " jeg kunne skulle eller efter etter fra fran nar hvor hvordan hur hjelpe hjaelpe hjalpa tyvarr desvaerre dessverre"
        " beklager undskyld ledsen blev blir bliver",
    "Finnish":
        "ja on ei en et se han mina sina olen olet ovat ole mutta etta joka kun niin kuin myos voin voi voit sen tama taman"
        " tassa hyvin valitettavasti auttaa sinua minua kanssa jos tai nyt vain",
    "Polish":
        "nie to sie na i w z ze do jest jestes jestem sa a o jak co po ale tak za od przez dla czy tego te ten ta tym moge"
        " mozesz pomoc przykro mi ty on ona my wy oni ich jego jej byc bardzo tylko juz kiedy gdzie moj twoj prosze",
    "Czech or Slovak":
        "je se na ze to v s z jsem jsi jsou jste byl byla ale jako pro kdyz tak uz nebo aby ktery ktera mohu muzu moci som si"
        " sme ste su nie co ked ako pomoci prominte bohuzel lituji vam ti mi neni velmi",
    "Croatian, Serbian or Slovene":
        "je i u na da se ne sam si smo ste su za od sa kao ali ili to ovo koji koja mogu moze moci zao mi ti on ona oni nije"
        " nisam bih pomoci vam in ni pri lahko sem so bi pa ze kaj",
    "Romanian":
        "si de la nu in pe cu un o este sunt esti suntem sa se ce ca mai din care pentru dar sau imi pare rau pot poate te va"
        " ajut eu tu el ea noi voi ei lui foarte cand unde acest aceasta",
    "Hungarian":
        "a az es nem hogy egy van vagy vagyok is meg de ha ez azt ezt mint csak mar en te o mi ti ok sajnalom tudok segiteni"
        " nagyon ki el fel le be kell lehet volt",
    "Turkish":
        "ve bir bu da de icin ile ben sen o biz siz onlar degil cok ama gibi daha en ne var yok mi mu ki olarak olan uzgunum"
        " yardim edemem yardimci olamam kadar sonra her sey bunu benim senin",
    "Indonesian or Malay":
        "yang dan di ke dari ini itu untuk dengan tidak adalah saya kamu anda dia kami kita mereka bisa boleh dapat akan pada"
        " atau juga sudah ada maaf membantu tak aku kau sangat karena jika apa",
    "Vietnamese":
        "toi khong the la va cua co cho mot nhung nay do voi trong de duoc ban nguoi rat xin loi giup anh em cac nhu khi thi"
        " cung da dang se neu ve viec",
    "Tagalog":
        "ang ng sa na ay mga at hindi ako ikaw siya kami tayo sila ko mo niya ka po ito iyon paumanhin matulungan para kung"
        " pero may wala",
    "Swahili":
        "na ya wa kwa ni la za katika hii hiyo huo si siwezi kukusaidia samahani mimi wewe yeye sisi wao lakini kama hapana"
        " ndiyo sana cha vya",
    "Catalan":
        "el la els les de i que en un una es per amb no pero mes aquest aquesta aixo jo tu ell ella som puc pot ho sento ajudar"
        " del al molt tambe perque quan",
    "Latin or Esperanto":
        "et est non sunt ad ut cum sed quod qui quae esse mi vi li si estas kaj de la ne ke povas bedauras via",
}.items()}
_OWN = {name: words - ENGLISH for name, words in _OTHERS.items()}
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SYMBOL = re.compile(r"[{}()\[\]=;<>_#/\\|+*%$0-9]")
ENOUGH = 12  # different words, without names, of which an English text has a common one
READ = 4000  # characters that are looked at


def judged(text: str) -> bool:
    """Whether a text is English, code, or too short to tell; `text` as `spelling.undisguised` gives it."""
    text = text[:READ]
    if not text.isascii():
        letters = [letter for letter in text if letter.isalpha()]
        if sum(not _latin(letter) for letter in letters) > max(1, len(letters) / 2):
            return False
    found = _WORD.findall(text)
    words = [_plain(word) for word in found]
    english = sum(word in ENGLISH for word in words)
    other = max(sum(word in own for word in words) for own in _OWN.values())
    if other > 1 and other > english:
        return other < len(words) / 7
    code = len(_SYMBOL.findall(text)) > len(text) / 12
    return english > len(words) / 25 or code or len({word for word in found if word.islower()}) < ENOUGH


def _latin(letter: str) -> bool:
    return letter < "\u0250" or "\u1e00" <= letter < "\u1f00"


def _plain(word: str) -> str:
    """A word in lower case without accents."""
    word = word.lower().replace("’", "'")
    if word.isascii():
        return word
    return "".join(letter for letter in unicodedata.normalize("NFKD", word) if not unicodedata.combining(letter))
