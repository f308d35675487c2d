"""Numbers that follow from a prompt's token ids."""

import torch

from fastav_plugin.functional.hashing import fingerprints, mix


def test_fingerprints_see_tokens_and_order_and_no_padding() -> None:
    ids = torch.tensor([[0, 0, 5, 6, 7], [9, 4, 5, 6, 7], [0, 0, 5, 7, 6]])
    valid = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]).bool()
    one, other_padding, other_order = fingerprints(ids, valid).tolist()
    assert one == other_padding != other_order
    assert fingerprints(ids[:1, 2:], valid[:1, 2:]).tolist() == [one]
    assert fingerprints(ids[1:2], torch.ones(1, 5).bool()).tolist() != [one]
    # The first two outputs of SplitMix64 that starts from 0.
    states = torch.tensor([0, 0x9E3779B97F4A7C15 - 2**64])
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    assert [number % 2**64 for number in mix(states).tolist()] == published
