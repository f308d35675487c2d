"""Whole files through every function that reads one."""
