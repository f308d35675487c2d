"""`fastav bench`: time, memory and FLOPs of pruned prefills and their parts."""
