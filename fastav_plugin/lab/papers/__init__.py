"""The papers' tables on the embedded model: what is compared, at which cost, and the results."""
