"""`fastav eval`: questions, answers dense and pruned, how they are judged and summed up."""
