"""What pruned batches use of TGI, by name and argument; true of the double and of the real one.

`python -m tests.model_overrides.tgi.signatures` prints what differs in the installed package, and
fails if anything does.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import sys
from typing import Any

PACKAGE = "text_generation_server"

#: Parameters of functions and methods; those of ours that differ would not be called.
PARAMETERS = {
    "models.get_model": (
        "model_id lora_adapter_ids revision sharded quantize speculate dtype kv_cache_dtype "
        "trust_remote_code max_input_tokens"
    ),
    "models.causal_lm.CausalLMBatch.from_pb": "pb tokenizer dtype device",
    "models.causal_lm.CausalLMBatch.filter": "self request_ids",
    "models.causal_lm.CausalLMBatch.concatenate": "batches",
    "models.causal_lm.CausalLM.forward": (
        "self input_ids attention_mask position_ids past_key_values"
    ),
    "models.causal_lm.CausalLM.generate_token": "self batch",
    "models.model.Model.__init__": (
        "self model_id model tokenizer requires_padding dtype device rank world_size "
        "sliding_window speculate adapter_id support_chunking"
    ),
    "models.model.Model.warmup": "self batch max_input_tokens max_total_tokens",
    "utils.speculate.set_speculate": "speculate",
}

#: Fields of the batch, in their order.
FIELDS = (
    "batch_id requests requests_idx_mapping input_ids attention_mask position_ids "
    "past_key_values all_input_ids input_lengths prefix_offsets read_offsets next_token_choosers "
    "stopping_criterias top_n_tokens top_n_tokens_tensor max_input_length padding_right_offset "
    "max_tokens keys_head_dim_last"
)

#: Fields that each message has, among others.
MESSAGES = {
    "Image": "data mimetype",
    "InputChunk": "text image",
    "Input": "chunks",
    "NextTokenChooserParameters": "do_sample repetition_penalty",
    "StoppingCriteriaParameters": "max_new_tokens ignore_eos_token",
    "Request": (
        "id input_chunks inputs truncate parameters stopping_parameters prefill_logprobs "
        "top_n_tokens add_special_tokens"
    ),
    "Batch": "id requests size max_tokens",
    "CachedBatch": "id request_ids size max_tokens current_tokens",
}


def differences() -> list[str]:
    """What the importable package has otherwise than the tables say; empty if nothing."""
    found = []
    for name, expected in PARAMETERS.items():
        actual = " ".join(inspect.signature(_find(name)).parameters)
        if actual != expected:
            found.append(f"{name}({actual}), not ({expected})")
    batch = _find("models.causal_lm.CausalLMBatch")
    fields = " ".join(field.name for field in dataclasses.fields(batch))
    if fields != FIELDS:
        found.append(f"CausalLMBatch holds {fields}, not {FIELDS}")
    if not isinstance(vars(_find("models.causal_lm.CausalLM"))["batch_type"], property):
        found.append("CausalLM.batch_type is no property")
    if not issubclass(_find("models.causal_lm.CausalLM"), _find("models.model.Model")):
        found.append("CausalLM is no Model")
    if not issubclass(batch, _find("models.types.Batch")):
        found.append("CausalLMBatch is no Batch")
    for name, expected in MESSAGES.items():
        lacks = set(expected.split()) - _message_fields(_find(f"pb.generate_pb2.{name}"))
        if lacks:
            found.append(f"{name} has no {', '.join(sorted(lacks))}")
    return found


def _find(name: str) -> Any:
    """An object by its path: the longest importable module, then attributes."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join([PACKAGE, *parts[:count]]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def _message_fields(message: Any) -> set[str]:
    if dataclasses.is_dataclass(message):
        return {field.name for field in dataclasses.fields(message)}
    return {field.name for field in message.DESCRIPTOR.fields}


if __name__ == "__main__":
    wrong = differences()
    print("\n".join(wrong) or "as expected")
    sys.exit(bool(wrong))
