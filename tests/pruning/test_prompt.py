"""Every reason is a sentence of a report, with the number that decided."""

import pytest

from fastav_plugin.pruning.prompt import Reason


@pytest.mark.parametrize("reason", Reason)
def test_a_sentence(reason: Reason) -> None:
    said = reason.sentence(64)
    assert "{" not in said
    assert ("64" in said) == (reason is Reason.FEW_MEDIA)
    assert said == said.strip()


def test_sentences_differ() -> None:
    assert len({reason.sentence(64) for reason in Reason}) == len(Reason)
    assert 0 not in set(Reason)  # which stands for a prompt that was pruned
