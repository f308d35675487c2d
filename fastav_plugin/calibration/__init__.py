"""`fastav calibrate`: rules and ratios measured on a model and media of the user's own."""
