"""Names and shapes of every tensor of the published 7B checkpoints, part by part."""

from __future__ import annotations

Table = dict[str, tuple[int, ...]]

HIDDEN, HEARD = 3584, 1280


def _linear(name: str, inputs: int, outputs: int, bias: bool = True) -> Table:
    weight: Table = {f"{name}.weight": (outputs, inputs)}
    return weight | ({f"{name}.bias": (outputs,)} if bias else {})


def _norm(name: str, width: int) -> Table:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _decoder() -> Table:
    """Qwen2-7B: 28 layers, 28 heads of 128, 4 groups of keys and values."""
    table: Table = {
        "model.embed_tokens.weight": (152064, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (152064, HIDDEN),
    }
    for layer in range(28):
        at = f"model.layers.{layer}"
        table |= _linear(f"{at}.self_attn.q_proj", HIDDEN, 3584)
        table |= _linear(f"{at}.self_attn.k_proj", HIDDEN, 512)
        table |= _linear(f"{at}.self_attn.v_proj", HIDDEN, 512)
        table |= _linear(f"{at}.self_attn.o_proj", 3584, HIDDEN, bias=False)
        for name in ("gate_proj", "up_proj"):
            table |= _linear(f"{at}.mlp.{name}", HIDDEN, 18944, bias=False)
        table |= _linear(f"{at}.mlp.down_proj", 18944, HIDDEN, bias=False)
        for name in ("input_layernorm", "post_attention_layernorm"):
            table[f"{at}.{name}.weight"] = (HIDDEN,)
    return table


def _whisper(prefix: str) -> Table:
    """Whisper large-v3's encoder."""
    table: Table = {
        f"{prefix}.conv1.weight": (HEARD, 128, 3),
        f"{prefix}.conv1.bias": (HEARD,),
        f"{prefix}.conv2.weight": (HEARD, HEARD, 3),
        f"{prefix}.conv2.bias": (HEARD,),
        f"{prefix}.embed_positions.weight": (1500, HEARD),
    } | _norm(f"{prefix}.layer_norm", HEARD)
    for layer in range(32):
        at = f"{prefix}.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            table |= _linear(f"{at}.self_attn.{name}", HEARD, HEARD, bias=name != "k_proj")
        table |= _norm(f"{at}.self_attn_layer_norm", HEARD) | _norm(f"{at}.final_layer_norm", HEARD)
        table |= _linear(f"{at}.fc1", HEARD, 5120) | _linear(f"{at}.fc2", 5120, HEARD)
    return table


def _qformer(prefix: str, hidden: int, inner: int) -> Table:
    """Two layers of BERT's shape, with cross-attention and the MLP of the queries."""
    table = _norm(f"{prefix}.bert.embeddings.LayerNorm", hidden)
    for layer in range(2):
        at = f"{prefix}.bert.encoder.layer.{layer}"
        for name, width in (("attention", hidden), ("crossattention", HEARD)):
            table |= _linear(f"{at}.{name}.self.query", hidden, hidden)
            table |= _linear(f"{at}.{name}.self.key", width, hidden)
            table |= _linear(f"{at}.{name}.self.value", width, hidden)
            table |= _linear(f"{at}.{name}.output.dense", hidden, hidden)
            table |= _norm(f"{at}.{name}.output.LayerNorm", hidden)
        table |= _linear(f"{at}.intermediate_query.dense", hidden, inner)
        table |= _linear(f"{at}.output_query.dense", inner, hidden)
        table |= _norm(f"{at}.output_query.LayerNorm", hidden)
    return table


def _siglip() -> Table:
    """SigLIP so400m at 384 pixels, its last layer and head gone."""
    prefix, width = "model.vision_tower.vision_tower.vision_model", 1152
    table: Table = {
        f"{prefix}.embeddings.patch_embedding.weight": (width, 3, 14, 14),
        f"{prefix}.embeddings.patch_embedding.bias": (width,),
        f"{prefix}.embeddings.position_embedding.weight": (729, width),
    } | _norm(f"{prefix}.post_layernorm", width)
    for layer in range(26):
        at = f"{prefix}.encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            table |= _linear(f"{at}.self_attn.{name}", width, width)
        table |= _norm(f"{at}.layer_norm1", width) | _norm(f"{at}.layer_norm2", width)
        table |= _linear(f"{at}.mlp.fc1", width, 4304) | _linear(f"{at}.mlp.fc2", 4304, width)
    return table


def _qwen_vision() -> Table:
    """Qwen2.5-VL's tower."""
    width = 1280
    table: Table = {
        "visual.patch_embed.proj.weight": (width, 3, 2, 14, 14),
        "visual.merger.ln_q.weight": (width,),
    }
    table |= _linear("visual.merger.mlp.0", 5120, 5120) | _linear(
        "visual.merger.mlp.2", 5120, HIDDEN
    )
    for block in range(32):
        at = f"visual.blocks.{block}"
        table |= {f"{at}.norm1.weight": (width,), f"{at}.norm2.weight": (width,)}
        table |= _linear(f"{at}.attn.qkv", width, 3 * width)
        table |= _linear(f"{at}.attn.proj", width, width)
        for name in ("gate_proj", "up_proj"):
            table |= _linear(f"{at}.mlp.{name}", width, 3420)
        table |= _linear(f"{at}.mlp.down_proj", 3420, width)
    return table


def video_salmonn2() -> Table:
    table = _decoder() | _siglip() | _whisper("speech_encoder")
    table |= _linear("model.mm_projector.0", 1152, HIDDEN)
    table |= _linear("model.mm_projector.2", HIDDEN, HIDDEN)
    table |= {"model.image_newline": (HIDDEN,), "speech_query_tokens": (1, 1, 768)}
    table |= _norm("ln_speech", HEARD) | _qformer("speech_Qformer", 768, 3072)
    table |= _linear("speech_llama_proj", 768, HIDDEN)
    table |= _linear("final_linear.0", HIDDEN, HIDDEN) | _linear("final_linear.2", HIDDEN, HIDDEN)
    return table


def video_salmonn2_plus() -> Table:
    table = _decoder() | _qwen_vision() | _whisper("audio")
    table |= {"audio.q_tokens": (1, 1, 3072)}
    table |= _qformer("audio.qformer", 3072, 12288) | _linear("audio.audio_proj", 3072, HIDDEN)
    return table


TABLES = {"video_salmonn2": video_salmonn2, "video_salmonn2_plus": video_salmonn2_plus}
