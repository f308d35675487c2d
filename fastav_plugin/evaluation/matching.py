"""How the text of an answer is read and judged: one function per published rule.

A rule returns what it understood, "" where it understood nothing. Whether that is right is the
same for all: one of the right answers, read alike. Captions have no right or wrong; they are
scored over the whole set (`cider.py`).
"""

import re
from collections.abc import Callable, Sequence

from fastav_plugin.errors import unknown_name

#: Given the answer, the right answers and the options: what was understood.
Reader = Callable[[str, Sequence[str], Sequence[str]], str]

CAPTION = "cider-d"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_AFTER = r"(?=[)\].:,*]|[\"']?\s*(?:$|\n))"
_LETTER = re.compile(r"^[\s(\[\"'*]*([A-Za-z])" + _AFTER)
_NAMED_LETTER = re.compile(
    r"(?i:\b(?:answer|option|choice)\b(?: is)?:?)\s*[(\[\"'*]*([A-Z])"
    rf"(?:{_AFTER}|(?=\s+(?:is|because|since)\b))"
)


def read_exact(text: str, right: Sequence[str] = (), choices: Sequence[str] = ()) -> str:
    """The whole answer in lower case, without blanks around it and full stops after it."""
    return text.strip().rstrip(" .").lower()


def read_yes_no(text: str, right: Sequence[str] = (), choices: Sequence[str] = ()) -> str:
    """Yes if the answer has "yes" anywhere, else no if it has "no" anywhere."""
    lower = text.lower()
    return next((word for word in ("yes", "no") if word in lower), "")


def read_strict_yes_no(text: str, right: Sequence[str] = (), choices: Sequence[str] = ()) -> str:
    """Yes or no if the answer is that very word, in any case, and nothing else."""
    word = text.lower().strip()
    return word if word in ("yes", "no") else ""


def read_first_sentence(text: str, right: Sequence[str] = (), choices: Sequence[str] = ()) -> str:
    """No if "No", "no" or "not" is a word of the first sentence, else yes."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if any(word in ("No", "not", "no") for word in words) else "yes"


def read_choice(text: str, right: Sequence[str] = (), choices: Sequence[str] = ()) -> str:
    """The option that the answer's letter names, else the one whose text it gives.

    A letter counts alone, on a line of its own or with a mark after it, so that the "A" of "A dog
    barks" does not; after "answer is" or "option" also before "is", "because" and "since". A text
    counts if it is the whole answer, else if it is the only option whose words occur in it;
    options within longer ones that occur too do not count.
    """
    for pattern in (_LETTER, _NAMED_LETTER):
        letter = pattern.search(text.strip())
        index = LETTERS.index(letter.group(1).upper()) if letter else len(choices)
        if index < len(choices):
            return _plain(choices[index])
    plain, options = _plain(text), [_plain(choice) for choice in choices]
    if plain in options:
        return plain
    there = [option for option in options if _within(option, plain)]
    longest = [o for o in there if not any(o != other and _within(o, other) for other in there)]
    return longest[0] if len(set(longest)) == 1 else ""


def read_contained(text: str, right: Sequence[str] = (), choices: Sequence[str] = ()) -> str:
    """The right answer, if its words occur in the answer one after another; else the answer.

    If the right answer is yes or no, the first of these two words that occurs.
    """
    plain = _plain(text)
    wanted = [_plain(answer) for answer in right]
    if set(wanted) <= {"yes", "no"}:
        return next((word for word in plain.split() if word in ("yes", "no")), plain)
    return next((answer for answer in wanted if _within(answer, plain)), plain)


def read_caption(text: str, right: Sequence[str] = (), choices: Sequence[str] = ()) -> str:
    """The whole text on one line."""
    return " ".join(text.split())


RULES: dict[str, Reader] = {
    "exact": read_exact,
    "yes-no": read_yes_no,
    "strict-yes-no": read_strict_yes_no,
    "first-sentence": read_first_sentence,
    "choice": read_choice,
    "offline-match": read_contained,
    CAPTION: read_caption,
}


def judge(
    rule: str, text: str, right: Sequence[str], choices: Sequence[str] = ()
) -> tuple[str, float | None]:
    """What is understood of an answer, and 1.0 if that is right, else 0.0; None for a caption.

    A multiple-choice question is answered right by the text of the right option. ConfigError for
    a rule that is none of `RULES`.
    """
    if rule not in RULES:
        raise unknown_name("matching rule", rule, RULES)
    read = RULES[rule](text, right, choices)
    if rule == CAPTION:
        return read, None
    normal = _plain if rule in ("choice", "offline-match") else read_exact
    return read, float(bool(read) and read in {normal(answer) for answer in right})


def _plain(text: str) -> str:
    """Lower case words with single blanks between them, without punctuation."""
    return " ".join(re.sub(r"[^\w']+|_", " ", text.lower()).split())


def _within(words: str, text: str) -> bool:
    return bool(words) and f" {words} " in f" {text} "
