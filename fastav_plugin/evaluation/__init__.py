"""`fastav eval`: questions, answers dense and pruned, how they are judged and summed up.

`dataset` reads questions in one of `formats`, `answers` asks them and `answers_file` keeps what was
answered, `matching` and `cider` judge, `summary` and `bootstrap` sum up.
"""
