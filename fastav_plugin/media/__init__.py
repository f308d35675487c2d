"""The one reader of media files, for commands, processors and servers."""
