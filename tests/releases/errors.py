"""Why nothing could be run."""


class CannotRun(Exception):
    """One line: the problem and what to do about it. Exit status 2."""
