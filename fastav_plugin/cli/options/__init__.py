"""Options that several commands share, as dataclasses that say what the options mean."""
