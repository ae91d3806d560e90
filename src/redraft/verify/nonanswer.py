"""Tell a text that answers nothing, whatever came before it: "Okay.", "Here is the poem:", the prompt itself.

Each of its sentences has the form of talk and says nothing new, or tells what its writer does, claims
something of the text, or quotes a word that was demanded. New is a word that carries meaning and is neither
of the prompt, nor of talk about texts, nor of courtesy. The words are English, chosen on the tuning records
of tests/data/first_answers.jsonl; benchmarks/RESULTS.md has the error rates.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import regex

from redraft.verify.segment import sentences, words

DIGIT = regex.compile(r"\d")
QUOTED = regex.compile(r""""[^"\n]{0,80}"|“[^”\n]{0,80}”|(?<!\w)'[^'\n]{0,80}'(?!\w)""")


def _listed(text: str) -> frozenset[str]:
    return frozenset(words(text))


COMMON = _listed("""
    a about above after all also although always am an and any anything are around as at be because been
    before being below between both but by can could did do does doing done down during each either else
    even ever every everything for from further get gets go goes going got had has have having he her
    here hers him his how however i if in into is it its itself just let like made make makes making may
    maybe me might more most much must my myself neither never no nor not nothing now of off on once one
    only or other our out over own please rather said same say says shall she should since so some
    something still such sure than that the their them then there therefore these they thing things this
    those though through thus to under until up upon us very was way we well were what when where which
    while who whom whose why will with within without would yes yet you your yours i'm i'll i've i'd
    it's that's there's here's let's don't doesn't didn't isn't aren't wasn't weren't can't cannot
    couldn't won't wouldn't shouldn't you're you've you'll we're we've we'll they're they've
""")
"""Words without a meaning of their own. They count for neither side."""

_TALK = regex.compile(
    r"""
    answer | repl(?:y|ie) | respon[sd] | feedback | critici | critique | review | judge | instruct
    | request | question | prompt | statement | content | version | draft | text | revis
    | rewrit | rewrote | rephras | reword | reformat | edit | correct | fix | mend | amend | improv
    | clarit | grammar | adjust | modif | chang | remov | delet | add(?:s|ed|ing)?$ | repeat | shorten
    | lengthen | trim | cut | sentence | words?$ | wording | character | letters?$ | paragraph | lines?$
    | column | phras | length | begin | began | starts?$ | ends?$ | ended$ | contain | miss
    | lack | match | fit(?:s|ted)?$ | json | pattern | schema | block | valid | number | digit | language
    | probab | command | exit | status | limit | allow | need | want | requir | exceed | expect
    | satisf | comply | compli | complain | too$ | many$ | few(?:er)?$ | least$ | exact | extra
    | long(?:er)?$ | short(?:er)?$ | total | mistake | error | wrong | right$ | fault | reject | accept
    | fail | pass(?:ed|es)?$ | apolog | sorry | clear | clarif | concis | format | quot | comma
    | punctuat | original | previous | final | complet | incomplet | unfinish | again$ | check
    """,
    regex.VERBOSE,
)
"""Beginnings of the words that checks, critics and apologies use; `$` ends a word."""


def stem_of(word: str) -> str | None:
    """Return the beginning that makes a word talk; None for any other word."""
    found = _TALK.match(word)
    return found[0] if found else None


MOST_TALK = 600
"""Characters of a text that can be talk alone. A longer one says something new, or copies the prompt."""

MOST_READ = 20_000  # characters of a text that are read: a looping model is recognised by how it begins
STEM = 4  # letters at their beginning by which words stand for each other: describe and description
COPIED = 3  # words from which a prompt's copy is no answer. A shorter one may be: "Hello!".

_ACKNOWLEDGE = _listed("""
    absolutely acknowledged affirmative agreed all alright away aye certainly complete completed cool
    correct course definitely do dokey done easy fine finished gladly good got great hm hmm i
    interesting it luck naturally noted of ok okay okey perfect pleasure right roger see sure surely
    thank thanks thing true understand understood very well will willingly with yeah yep yes you
""")
"""A text of these alone acknowledges a request."""

_PHRASES = regex.compile(
    r"(?:one moment(?:,? please)?|please wait|(?:working )?on (?:it|that)|copy that|consider it done"
    r"|no problem(?: at all)?|no worries|you're (?:very )?welcome|all (?:set|right)|good luck)\W*"
)

_COURTESY = _listed("""
    able above accurate added anywhere appear appears appreciate ask asking assist attempt available
    avoid avoided avoiding avoids believe below best better brief briefly carefully choose completely
    compose composed condition conditions consists constraint constraints count counting create created
    criteria dear delighted demanded described details easy else enjoy enough entirely explained feel
    fewer finish finished follow followed following follows forbidden free friendly fulfil fulfill
    fulfills fulfils given glad goes good great ha haha happy hear help helpful helps hope idea include
    included includes including insert inserted interesting item items keep keeping kept kind know known
    less like limit listed look looking love maximum meet meets mention mentions met mind minimum moment
    more name necessary note offer one option part perfectly person place pleased precise precisely
    problem produce produced provide provided query reaching ready respected restriction rule rules
    satisfied see shown simple sincere single sounds start started starting stated stay stayed stays
    step steps suggest task tell think tried try trying twice under unnecessary use used user uses using
    want way ways whether wish wonderful work working write writing written wrote
""")
"""Words of offers, promises and praise. They carry nothing new."""

_NUMBERS = _listed("""
    dozen eight eighteen eighty eleven fifteen fifty five forty four fourteen hundred nine nineteen
    ninety seven seventeen seventy six sixteen sixty ten thirteen thirty thousand three twelve twenty
    two
""")
_NUMBERED = ("step", "item", "point", "part", "count", "counting")
_UNIT = regex.compile(r"(?:words?|sentences?|characters?|letters?|paragraphs?|lines?|items?)$")

_PRODUCE = (
    "compose|convert|continue|create|describe|design|draft|explain|generate|give|invent|list|make|name|outline|"
    "paraphrase|plan|produce|propose|provide|recommend|rephrase|reply|return|rewrite|show|suggest|"
    "summari[sz]e|tell|translate|write"
)
_REQUEST = (
    "answer|analy[sz]e|ask|calculate|change|choose|classify|compare|complete|compute|correct|count|define|"
    "discuss|edit|estimate|evaluate|extract|find|fix|identify|imagine|mark|pick|rate|respond|solve|"
    "shorten|simplify|sort|spell|state|" + _PRODUCE
)
_REQUESTS = regex.compile(rf"(?:{_REQUEST})(?:s|d|ed|ing)?$")
_WANTS_TEXT = regex.compile(
    rf"(?:^|[.!?:;,\n-]\s*|\bplease\s+|\b(?:can|could|will|would)\s+you\s+)(?:(?:{_REQUEST})\b"
    r"|(?:(?:in|at|for|from|to|on|by|with|of)\s+)?(?:what|why|how|who|whom|whose|where|when|which)\b)"
)
"""A request for a text, or a question that neither yes nor no answers."""

_WANTS_PROSE = regex.compile(
    r"\b(?:describe|explain|suggest|recommend|story|tale|poem|haiku|limerick|essay|biography|joke|riddle|recipe|"
    r"slogan|motto|tweet|headline|scene|speech|toast|advice|tips?|facts?|instructions|invitation|dialogue|song|"
    r"rap|letter to)\b"
)
"""A request for a text that has words which the request lacks."""

_WANTS_PHRASE = regex.compile(
    r"\b(?:translat|synonym|antonym|opposite|another word|how do you say|answer to|repl(?:y|ies)\b|respond|"
    r"mean|thank|greet|say\b|complete\b|fill\b|finish|if\b|whether\b|classif|label|should i (?:answer|write))"
)
"""To such a prompt, "Okay." may be the answer."""

_STATES = regex.compile(
    r"(?:be|bye|call|come|do|don't|forget|from|go|good|happy|he|hello|hey|hi|i|it|it's|i'm|i'll|i've|just|keep|let|"
    r"listen|my|nice|no|note|ok|okay|our|please|pretend|remember|repeat|say|she|sorry|stop|thank|thanks|that|there|"
    r"they|this|use|wait|we|yes|you|your)\b"
)
"""A prompt that tells or orders something. Other words without a verb ask for a text: "20 words on gulls"."""

_WANTS_SPEECH = regex.compile(r"\b(?:repl(?:y|ies)|respond|say|ask|should i (?:answer|write))\b")
"""To such a prompt, an offer or a promise may be the answer."""

_WANTS_NUMBER = regex.compile(r"\b(?:how (?:many|much|long)|count|rate|score|number of|length|limit)\b")

_PRODUCT = regex.compile(
    rf"\b(?:{_PRODUCE}|correct|fix|complete)\s+(?:me\s+|us\s+)?"
    r"(?:(?:an?|the|your|some|one|two|three|four|five)\s+)?"
    r"((?:[\p{L}-]+\s+){0,2}[\p{L}-]+)"
)
"""What a prompt asks for, with up to two more words: "Write a short poem about rain"."""

_KINDS = (
    "answer|response|reply|text|output|description|explanation|summary|translation|list|suggestion|solution|result|"
    "calculation|correction|code|passage|piece|json|option"
)
_IS = r"(?:is|are|was|were|has|have|had|does|do|did|will|can|uses?|contains?|meets?|fits?|begins?|starts?)"
_FORM = regex.compile(
    rf"""
    ^here(?:'s|\ is|\ are|\ it|\ you|\ goes) | ^(?:below|above|following)\b
    | ^(?:this|that|these|those)(?:\ is|\ are|'s)\b
    | (?:^|[,!]\ )(?:i|we)(?:'m|'ll|'d|\ am|\ will|\ would)\ \w
    | (?:^|[,!]\ )(?:i|we)(?:'ve|\ have)?\ (?:\w+ed|rewritten|can|could|did|made|kept|written|wrote|understand
        |know|hope|follow|began|start|choose|chose|chosen|see|need|must|try|think|believe|appreciate
        |have\ (?:an?|the|one)\ (?:{_KINDS}|\w+\ for\ you))\b
    | (?:^|[,!]\ )let\ (?:me|us)\b | (?:^|[,!]\ )let's\b
    | ^it\ is\ (?:exactly|at|below|complete|done|fewer|finished|given|less|ready|short|shown|under|within
        |written)\b
    | ^(?:it|they)\ (?:has|meets|fits|contains|does|uses|follows|begins|starts|consists)\ \w | ^word\ count\b
    | ^you\ (?:want|asked|need|would\ like)\b | ^the\ (?:task|user|prompt|person|one)\b
    | ^(?:no\ |all\ |the\ |both\ )?(?:\w+\ )?
        (?:requirements?|conditions?|constraints?|instructions?|rules|words?|limits?)
        (?=\ (?:\S+\ )?(?:is|are|was|were|has|have|does|do|met|used|respected|satisfied|followed|appears?)\b)
    | ^please\ (?:provide|give|tell|share|specify)\b
    | ^(?:the|my|your|this)\ (?:\w+\ )?(?:sentence|version)\ {_IS}\b
    | ^there\ (?:is|are)\b | ^(?:does|did|is)\ (?:this|that)\b
    | ^(?:do|would|should|shall|can|could)\ (?:i|you|we)\b
    | \bdo\ you\ (?:want|need|mean)\b | ^you\ can\b | ^\w+\ (?:complete|completed|done|finished|ready)\W*$
    | :$ | \bas\ (?:requested|instructed|required|asked|you)\b
    | \b(?:happy|glad|pleased|delighted|ready|here)\ (?:to|when)\b
    | \b(?:let\ me\ know|feel\ free|anything\ else|help\ you|thank(?:s|\ you)\ for|your\ question)\b
    | \b(?:good|great|interesting)\ question\b
    """,
    regex.VERBOSE,
)
"""Forms of talk: an announcement, a promise, a claim about the text, a demand, an offer."""

_OPENING = regex.compile(
    r"(?:(?:alright|certainly|of course|okay?|sure thing|sure|yes|understood|got it|great|absolutely"
    r"|no problem|no worries)[,.!:]* )+"
)
_OF_ITSELF = regex.compile(
    rf"""
    ^(?:i|we|let\ me)\b(?:'\w+)?(?:\ \w+){{0,4}}?\ (?:to\ )?
        (?:help|assist|do\ my\ best|avoid|written|wrote|understand|{_REQUEST})(?:e?d|ing)?\b
    | ^(?:i|we)\b.*\ (?:the|my|this|your|an?)\ (?:{_KINDS}|instructions?|question|request|task|words?
        |prompt)\b
    | ^to\ answer\ (?:this|your|the)\b | ^(?:as|i'm)\ an?\ (?:\w+\ )*?(?:ai|assistant|language\ model)\b
    """,
    regex.VERBOSE,
)
"""An offer, a promise or a report by the writer. The other words of the sentence do not matter."""

_PERSONAL = regex.compile(
    r"\b(?:i|me|my|you|your|we|us|our|speech|letter|notice|note|e?-?mail|message|story|diary|dialogue|poem|song|riddle|joke"
    r"|character|role|pretend|quote|line|reply|apolog\w+|respond|say|toast|excuse|motto|sentence)\b"
)
"""To such a prompt, a text in the first person may be the answer."""

_CLAIMS = regex.compile(
    r"^(?:the|my|this|your) (?:[\w'-]+ ){0,3}?(?:has|have|had|does|do|did|contains?|meets?|fits?|follows?"
    r"|uses?|avoids?|is (?:under|within|below|short|brief|now|kept|exactly|at (?:most|least)))\b"
)
"""A claim about the text, if its subject is one. Its other words do not matter."""

_KIND = regex.compile(rf"(?:{_KINDS})$")
_ABOUT_TEXT = regex.compile(
    rf"^(?:(?:the|my|your|this|that|these|an?|each) )?(?:[\w'-]+ )?({_KINDS})\b(?:\W+(\p{{L}})|:)"
)
_REFUSES = regex.compile(
    r"\b(?:not (?:\w+ )?(?:sure|able|allowed|going)|unable|unknown"
    r"|i (?:do not|don't) (?:\w+ )?(?:have|know|think|understand)"
    r"|(?:can|will) ?not|can't|won't)\b(?! (?:to )?(?:be|contain|exceed|include|mention|use)\b)"
)
"""A refusal is an answer. That the text will not use a word is none."""

_DONE = regex.compile(
    r"\b(?:is|are|was|has been|have been) (?:now |all )?"
    rf"(?:given|shown|below|above|complete|ready|done|finished|written|made|(?:{_REQUEST})e?d)\b"
)
_AFTER = _listed("""
    about above are at avoids begins below can consists contains do does fits follows for from goes had
    has have in includes is meets of on starts that to uses was will with you
""")
_QUESTION = regex.compile(r"\b(?:the|your|this) question\b(?! mark)|\bi(?:'ll| will| can) answer\b")
_DECIDES = regex.compile(r"\b(?:yes|no|none|never|both|neither|nothing|not|true|false|\p{Lu})\W*$")
_CHOOSES = regex.compile(r"\b(?:is|are|was)(?: not)?(?: an?| the)?:? \W?(\w+)\W*$")
_APOLOGY = regex.compile(r"\b(?:apolog|sorry|excuse|regret)")

_INSIDE = r"[^][<>{}()\"\n]{1,60}"
_GAP = regex.compile(rf"\[{_INSIDE}\]|<{_INSIDE}>|\{{+{_INSIDE}\}}+|\({_INSIDE}\)")
_TO_FILL = regex.compile(r"\b(?:your (?:\w+ ){1,3}here|insert|enter|goes here|fill in)\b")
_GAPS = _listed("""
    address amount body city code color colour company content country date detail email enter example
    first friend guest here ingredient ingredients insert last link month name no number phone place
    recipient result step steps subject time title topic url year yes your
""")
"""Names of gaps in templates."""
_FILLER = regex.compile(
    r"(?:n/a|(?:yet )?to be (?:added|decided|determined|done)|todo|tbd|tba|xxx+|json|lorem ipsum.*"
    r"|placeholder|[-_.…–—=~?!*\s]{2,})\W*",
    regex.DOTALL,
)
_LABELS = regex.compile(
    r"(?:\W*\d*\W*\b(?:item|step|point|example)\b\W*\d*\W*){2,}"
    r"|\W*(\p{L}+) 1(?:\W+\1 \d)+\W*|\W*1[.)](?:\s*\d[.)])*\s*"
)
"""A list of labels alone: "Step 1:", "Reason 1, reason 2", "1. 2."."""

_ABOUT_YOU = regex.compile(
    r"\b(?:how are you|how do you feel|wh(?:o|at) are you|what can you do|what's up"
    r"|from now on|in future|next time|remember (?:that|my|this|to))\b"
)
"""A prompt about the writer, or about its later answers: "Okay." and "I will." may answer it."""

_TEXTS = regex.compile(
    r"\b(?:(?:answer|repl(?:y|ie)|response|text|question|summar(?:y|ie)|review|edit(?:or)?|proofreader|instruction|constraint"
    r"|requirement|limit|message|notice|rule|feedback|grammar|spelling|punctuation)s?"
    r"|(?:the|an?|this|that|which|many) (?:words?|sentences?|letters?|characters?|paragraphs?|lines?))\b"
)
"""A prompt about texts. What it asks for may sound like talk: "A good answer is short."."""

_SELF = regex.compile(
    r"\b(?:i|we|here|below|above|my|this|your|following|follows|requested|asked)\b"
    r"|\bthe (?:answer|response|reply) (?!is\b)"
)
"""Only with such a word a sentence is talk where the prompt asks about texts."""

_SPEECH = regex.compile(r"""\s*(?:"[^"]+"|“[^”]+”)\s*""")
"""What stands in quotation marks as a whole is the text that was asked for."""

_CODE = regex.compile(r"\w[\[{=]|\w\.\w+\(|\w\((?!s\))|\w\[|=|[<>] |[a-z]_[a-z]|\]\(|\\")
_LABELLED = regex.compile(r"^(?:prompt|question|q|task|instruction|user)\s*:\s*")
_NO_FILLER = regex.compile(
    r"\b(?:blank|dot|form|placeholder|template|symbol|sign|mark|morse|emoji|ascii|operator|pattern|characters?)s?\b"
)

_FENCE = regex.compile(r"^\s*(?:```|~~~).*$", regex.MULTILINE)
_MARKS = regex.compile(r"[*#`~]+|_{2,}|^\s*(?:[-+•]|--|//|\d{1,3}[.)])\s+", regex.MULTILINE)


@dataclass(frozen=True)
class _Request:
    text: str
    told: str
    known: Set[str]
    beginnings: Set[str]  # beginnings of those words
    product: Set[str]  # words for what is to be written
    anything: bool  # it asks, at all
    for_text: bool  # neither yes nor no answers it
    on_text: bool  # it is about texts, or gives one to work on
    quoted: Sequence[Sequence[str]]  # what the demand quotes and the prompt does not, each as words


def asks(prompt: str) -> bool:
    """Return whether a prompt asks for anything."""
    return _asked(prompt[:MOST_READ], "").anything


def refuses(answer: str) -> bool:
    """Return whether a text begins with a refusal, or with a question about what was meant."""
    return any(_REFUSES.search(_plain(sentence)) for sentence in sentences(answer[:MOST_TALK])[:2])


def answers_nothing(answer: str, prompt: str, demand: str = "") -> bool:
    """Return whether a text answers nothing."""
    asked, text = _asked(prompt[:MOST_READ], demand[:MOST_READ]), _plain(answer)
    if not asked.anything or not answer.strip():
        return False
    if _copies(text, asked):
        return True
    if len(text) > MOST_TALK:
        return False
    if _is_gap(text, asked):
        return True
    found = [] if _SPEECH.fullmatch(answer) else sentences(answer)
    return bool(found) and all(_talks(sentence, asked) for sentence in found)


@lru_cache(maxsize=64)
def _asked(prompt: str, demand: str) -> _Request:
    text, told = _plain(prompt), _plain(demand)
    ends = [*sentences(text)[:1], *sentences(text)[-1:]]  # what is worked on stands between or beside them
    requests = [part for part in ends if _WANTS_TEXT.search(part) or part.endswith("?")]
    known = frozenset(words(f"{' '.join(requests) or text} {told}"))
    ends_open = text[-1:].isalnum() and "?" not in text
    fragment = ends_open and len(words(text)) >= COPIED and not _STATES.match(text)
    for_text = fragment or _WANTS_TEXT.search(text) is not None
    return _Request(
        text=text,
        told=told,
        known=known,
        beginnings=frozenset(word[:STEM] for word in known - COMMON if len(word) >= STEM),
        product=frozenset(word for found in _PRODUCT.finditer(text) for word in words(found[1])) - COMMON,
        anything=(for_text or text.endswith("?")) and not _ABOUT_YOU.search(text),
        for_text=for_text,
        on_text=any(mark in text for mark in '":\n') or _TEXTS.search(text) is not None,
        quoted=[] if '"' in text else [words(piece) for piece in QUOTED.findall(told)],
    )


def _plain(text: str) -> str:
    """Return a text in lower case, without marks of markdown, and without quotation marks around it."""
    plain = text.casefold().replace("’", "'").replace("“", '"').replace("”", '"')
    plain = _MARKS.sub("", _FENCE.sub("", plain)).strip()
    return plain[1:-1] if plain[:1] == plain[-1:] == '"' and plain.count('"') == 2 else plain


def _copies(text: str, asked: _Request) -> bool:
    said, prompt, told = words(_LABELLED.sub("", text)), words(asked.text), words(asked.told)
    if len(prompt) < COPIED or not asked.anything:
        return False
    if said in (prompt, [*prompt, *told]):
        return True
    # It may have every word of a question and no other: "How magnets work."
    meant = {word[:STEM] for word in prompt if word not in COMMON}
    own = {word[:STEM] for word in said if word not in COMMON}
    return asked.for_text and len(meant) > 2 and own == meant and "or" not in prompt and "which" not in prompt


def _is_gap(text: str, asked: _Request) -> bool:
    if _NO_FILLER.search(asked.text) or _CODE.search(text):
        return False
    if not text or _FILLER.fullmatch(text) or _LABELS.fullmatch(text):
        return asked.for_text and not (text.startswith("1") and asked.text.endswith("?"))
    inside = [word for gap in _GAP.findall(text) for word in words(gap) if not DIGIT.search(word)]
    if inside:
        unknown = [word for word in inside if word not in _GAPS and _is_new(word, asked)]
        left = [word for word in words(_GAP.sub(" ", text)) if not DIGIT.search(word) and word not in _GAPS]
        named = max(map(len, inside)) > 2 and 2 * len(unknown) < len(inside)
        return named and not any(_is_new(word, asked) for word in left)
    return len(words(text)) <= 6 and bool(_TO_FILL.search(text)) and not _says_new(text, asked)


def _talks(sentence: str, asked: _Request) -> bool:
    """Return whether a sentence is about its text or writer, or has the form of talk and says nothing new."""
    text = _plain(sentence)
    said = set(words(text))
    if _CODE.search(sentence):
        return False
    if said <= _ACKNOWLEDGE or _PHRASES.fullmatch(text):
        return asked.for_text and not (_WANTS_PHRASE.search(asked.text) or said <= asked.known)
    if any(words(piece) in asked.quoted for piece in QUOTED.findall(text)):
        return asked.for_text
    on_texts = asked.text.endswith("?") and _TEXTS.search(asked.text)
    if _REFUSES.search(text) or (on_texts and not _SELF.search(text)):
        return False
    return _is_of_itself(_OPENING.sub("", text), asked) or (
        not _says_new(sentence, asked) and _has_form(sentence, text, asked)
    )


def _is_of_itself(text: str, asked: _Request) -> bool:
    """Return whether a sentence tells what its writer does, or claims something of the text asked for."""
    if not asked.for_text:
        return False
    if _OF_ITSELF.search(text) and not _PERSONAL.search(asked.text):
        return True
    named = any(_KIND.match(word) or word in asked.product for word in words(text)[1:5])
    return named and not asked.on_text and _CLAIMS.search(text) is not None


def _has_form(sentence: str, text: str, asked: _Request) -> bool:
    """Return whether a sentence without new words, given as it is and plain, has the form of talk."""
    if _QUESTION.search(text) and "question" not in asked.text:
        return True
    if _decides(sentence, asked):
        return False
    own = _OPENING.sub("", text)
    if _names_product(own, asked):
        return True
    right = text.rstrip(".!?") in asked.text or (_APOLOGY.search(text) and _APOLOGY.search(asked.text))
    if right or not asked.for_text or _WANTS_SPEECH.search(asked.text):
        return False
    plain = not (asked.on_text or _PERSONAL.search(asked.text))
    own_words = not asked.text.endswith("?") and (plain or _WANTS_PROSE.search(asked.text))
    if len(words(text)) >= COPIED and own_words:
        return True
    return bool(_FORM.search(text) or _FORM.search(own)) or _is_demand(text, asked)


def _names_product(text: str, asked: _Request) -> bool:
    """Return whether a sentence is about what was to be written."""
    start, prompt = words(text)[:3], words(asked.text)
    if _DONE.search(text) and any(word[:STEM] in asked.beginnings for word in start):
        return asked.for_text
    about = _ABOUT_TEXT.match(text)
    named = about and (about[1] not in prompt or (asked.for_text and about[2]) or about[1] in asked.product)
    return bool(named) or (asked.for_text and _heads(text, asked))


def _heads(text: str, asked: _Request) -> bool:
    """Return whether a sentence begins with what was to be written, and describes that."""
    pairs = list(pairwise(words(text)))[:4]
    return any(word in asked.product and after in _AFTER for word, after in pairs)


def _is_demand(text: str, asked: _Request) -> bool:
    """Return whether a sentence repeats what was demanded, or only gives a length: "Exactly 3 sentences."."""
    said, told = words(text), words(asked.told)
    if 2 * sum(word in told for word in said) > len(said):
        return True
    if "use" in told and not {"word", "words"}.isdisjoint(said):
        return True
    units = set(filter(_UNIT.match, said[1:]))
    return not _WANTS_NUMBER.search(asked.text) and not units.isdisjoint(told)


def _decides(sentence: str, asked: _Request) -> bool:
    """Return whether a sentence ends in a decision: yes, a letter, or a word that the prompt offers."""
    if sentence.rstrip().endswith(":") or _heads(_plain(sentence), asked):
        return False
    chosen = _CHOOSES.search(_plain(sentence))
    return bool(_DECIDES.search(sentence)) or bool(chosen and chosen[1] in words(asked.text))


def _says_new(sentence: str, asked: _Request) -> bool:
    """Return whether a sentence has a word, a number or a quotation of its own."""
    plain = _plain(sentence)
    asked_words = f" {' '.join(words(asked.text + ' ' + asked.told))} "
    if any(f" {' '.join(words(_plain(quoted)))} " not in asked_words for quoted in QUOTED.findall(sentence)):
        return True
    said = words(plain)
    for place, word in enumerate(said):
        number = word in _NUMBERS or DIGIT.search(word)
        if number and place and said[place - 1] in _NUMBERED:
            continue
        if not number and _is_new(word, asked):
            return True
        if number and word not in asked.known and not any(map(_UNIT.match, said[place + 1 : place + 3])):
            return True
        if number and _WANTS_NUMBER.search(asked.text):
            return True
    return False


def _is_new(word: str, asked: _Request) -> bool:
    """Return whether a word carries a meaning that neither prompt nor talk has."""
    told = word in asked.known or (len(word) >= STEM and word[:STEM] in asked.beginnings)
    return not (
        told
        or word in COMMON
        or word in _COURTESY
        or word in _ACKNOWLEDGE
        or stem_of(word)
        or _KIND.match(word)
        or _REQUESTS.match(word)
    )
