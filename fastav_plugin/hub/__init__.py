"""Names of places: a folder of a checkpoint, or a hub id and what the local cache holds of it.

`ids` tells them apart without a library; `files` looks into the cache of huggingface_hub first, and
downloads what is not there.
"""
