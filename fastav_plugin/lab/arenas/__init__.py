"""What the arenas on pretrained models share: questions, settings at equal tokens, one run, tables.

An arena is a model with questions about media (`arena`). A run answers them under every setting
(`measure`, `run`, `log`), each beside a random control with the same counts (`control`), and
`summary` makes the tables.
"""

#: Keys of all tables.
KEYS = (
    *(
        "methods-50",
        "methods-77",
        "late-cuts",
        "late-removal",
        "p-by-layer",
        "second-question",
        "one-cut",
    ),
    "cut-by-layer",
    "presets",
    *("upper-bound", "methods-65", "methods-25"),
    *("late-joined-77", "late-joined-65", "late-joined-50", "late-joined-25"),
)
