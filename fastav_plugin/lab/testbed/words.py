"""The small vocabulary of the testbed model, its tokenizer and its chat template."""

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fastav_plugin.lab.testbed.world import COLOURS, SHAPES, SOUNDS

NAMED_TOKENS = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
PAD, UNKNOWN, TURN_START, TURN_END = "<|endoftext|>", "<|unknown|>", "<|im_start|>", "<|im_end|>"
_SPECIAL = (PAD, UNKNOWN, TURN_START, TURN_END, *NAMED_TOKENS.values())
_WORDS = (
    *("system", "user", "assistant", "yes", "no", "early", "late"),
    *("is", "visible", "heard", "do", "sound", "and", "picture", "match"),
    *("which", "colour", "when", "shape", "sounds", "shapes", "nothing"),
    *SHAPES,
    *COLOURS,
    *SOUNDS,
)
_TEMPLATE = """
{%- for message in messages -%}
<|im_start|>{{ message.role }} {% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'video' -%}<|vision_bos|><|VIDEO|><|vision_eos|>
{%- elif part.type == 'image' -%}<|vision_bos|><|IMAGE|><|vision_eos|>
{%- elif part.type == 'audio' -%}<|audio_bos|><|AUDIO|><|audio_eos|>
{%- else -%}{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}<|im_end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant{%- endif -%}
"""
CHAT_TEMPLATE = _TEMPLATE.replace("\n", "")


def vocabulary() -> dict[str, int]:
    """Every token of the model and its id."""
    return {token: index for index, token in enumerate((*_SPECIAL, *_WORDS))}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the word tokenizer: lower case, without punctuation and articles."""
    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNKNOWN))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in _SPECIAL])
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[^a-z]+"), " "),
            normalizers.Replace(Regex(r"\b(the|a|an)\b"), " "),
            normalizers.Replace(Regex(r"\bcolor\b"), "colour"),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        padding_side="left",
        extra_special_tokens=NAMED_TOKENS,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
