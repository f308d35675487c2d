"""A look at one model or one prompt: inspection, comparison of methods, attention by depth.

`measured_run` runs and measures one generate(); comparison, evaluation, calibration and lab use it.
"""

#: Name of the unpruned run in every comparison.
DENSE = "dense"

#: Shares of dense's tokens of an average layer at which methods are compared.
BUDGETS = (0.77, 0.65, 0.50, 0.25)
