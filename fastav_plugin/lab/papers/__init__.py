"""The papers' tables on the bundled model: what is compared, at which cost, and the results."""

#: Keys of all tables.
KEYS = (
    *("methods-fastav", "methods-fastav+divprune", "rules", "rules-wider", "alpha", "drop-ratio"),
    *("global-layer", "keep-ratio", "late-removal", "targets"),
)
