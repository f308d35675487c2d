"""Pictures drawn by matplotlib as PNG or SVG: one file per kind, `page` for what they share."""
