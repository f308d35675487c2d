"""One decoder layer: what goes in, what attends, what stays.

Arguments and masks cut to the survivors, the KV layer with its buffer, the renamed attention.
"""
