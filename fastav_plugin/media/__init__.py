"""The one reader of media files, for commands, processors and servers.

What reads a file raises ConfigError with its name where that fails, and UnsupportedError with the
command that installs PyAV where it is missing.
"""
