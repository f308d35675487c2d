"""The settings of one model: what is given, a preset, what its folder holds, its family's defaults.

`base` finds what the given fields are laid over, `presets` holds the trades that have a name, and
`resolution` makes the FastAVConfig of a model from all of it.
"""
