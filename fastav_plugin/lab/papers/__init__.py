"""The papers' tables on the bundled model: what is compared, at which cost, and the results."""
