"""A padding mask is left out of a mask only inside a promise that it hides nothing."""

from __future__ import annotations

import torch
from transformers.masking_utils import sdpa_mask

from instructclf.engine.running.padding_masks import hiding_nothing, without_reading

SIZES = {"batch_size": 2, "q_length": 3, "kv_length": 3}


def test_a_mask_is_made_as_before_and_without_padding_inside_the_promise():
    make = without_reading(sdpa_mask)
    padding = torch.tensor([[True, True, True], [True, True, False]])
    expected = sdpa_mask(**SIZES, attention_mask=padding)
    assert torch.equal(make(**SIZES, attention_mask=padding), expected)
    with hiding_nothing():
        assert make(**SIZES, attention_mask=torch.ones_like(padding)) is None
    assert torch.equal(make(**SIZES, attention_mask=padding), expected)
