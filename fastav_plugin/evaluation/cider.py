"""CIDEr-D of captions (Vedantam et al., arXiv 1411.5726, section 5), for a whole set at once.

The reference implementation is not maintained and cuts words with a Java program. This one has
its arithmetic; words are cut by the rule below, close to the Penn Treebank's. Scores of two
settings are comparable with each other; against published ones they may differ a little.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

LONGEST, SIGMA, SCALE = 4, 6.0, 10.0
_WORD = re.compile(
    r"o'clock|\w+(?=n't\b)|n't\b|'(?:s|m|d|ll|re|ve)\b|\d+:\d+|\w+(?:[-./]\w+)*|[^\w\s]"
)
_DROPPED = frozenset("'\"`.?!,:-;()[]{}")

Phrase = tuple[str, ...]


def words_of(caption: str) -> list[str]:
    """Lower-case words without punctuation; "isn't" is "is", "n't" and "dog's" "dog", "'s"."""
    return [word for word in _WORD.findall(caption.lower()) if word not in _DROPPED]


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Score captions against the references of their own pictures.

    How rare a phrase is counts over the references of all pictures given, so a score depends on
    the set: one picture alone makes every phrase common, and the score 0. There is at least one
    reference for each caption. The mean of the scores is that of the set; one is at most 10.
    """
    wanted = [[_count(words_of(text)) for text in texts] for texts in references]
    seen: Counter[Phrase] = Counter()
    for texts in wanted:
        seen.update({phrase for counts in texts for phrase in counts})
    everything = math.log(max(1, len(references)))

    def vector(counts: Counter[Phrase]) -> list[dict[Phrase, float]]:
        found: list[dict[Phrase, float]] = [{} for _ in range(LONGEST)]
        for phrase, count in counts.items():
            found[len(phrase) - 1][phrase] = count * (everything - math.log(max(1, seen[phrase])))
        return found

    scores = []
    for caption, texts in zip(captions, wanted, strict=True):
        counts = _count(words_of(caption))
        mine = vector(counts)
        total = sum(
            _likeness(mine, vector(other), _length(counts) - _length(other)) for other in texts
        )
        scores.append(SCALE * total / (LONGEST * len(texts)))
    return scores


def _count(words: Sequence[str]) -> Counter[Phrase]:
    return Counter(
        tuple(words[start : start + size])
        for size in range(1, LONGEST + 1)
        for start in range(len(words) - size + 1)
    )


def _length(counts: Counter[Phrase]) -> int:
    """Pairs of words, which the reference implementation takes for the length."""
    return sum(count for phrase, count in counts.items() if len(phrase) == 2)


def _likeness(
    mine: Sequence[dict[Phrase, float]], other: Sequence[dict[Phrase, float]], longer: int
) -> float:
    """Sum over phrase lengths of clipped cosines, less for another length."""
    total = 0.0
    for left, right in zip(mine, other, strict=True):
        norm = math.sqrt(sum(v * v for v in left.values()) * sum(v * v for v in right.values()))
        if norm:
            shared = (min(v, right[p]) * right[p] for p, v in left.items() if p in right)
            total += sum(shared) / norm
    return total * math.exp(-(longer**2) / (2 * SIGMA**2))
