"""Token counts without a model: dry runs of the engine, and configs that meet a FLOPs budget."""
