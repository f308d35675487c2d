"""`fastav demo`: three clips, or one of the user's own, answered dense and pruned."""
