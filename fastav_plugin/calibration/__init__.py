"""`fastav calibrate`: rules and ratios measured on a model and media of the user's own.

`run` goes through it: prompts (`data`), their rollout (`rollout_profile`), settings to try
(`candidates`), how far each is from dense (`fidelity`), and the choice (`checked_search`).
"""
