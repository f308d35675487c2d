"""A look at one model or one prompt: inspection, comparison of methods, attention by depth."""
