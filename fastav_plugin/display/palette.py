"""The colours of all pictures, pages and notebook tables: each modality has one everywhere.

They are those of Okabe and Ito, which people with any colour vision tell apart; nothing relies on
colour alone.
"""

PAPER, INK, FAINT, GRID = "#ffffff", "#1d2433", "#6b7385", "#e4e7ed"
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PURPLE, YELLOW, BLACK = "#56b4e9", "#cc79a7", "#b8a90a", "#000000"
#: Of methods, in the order in which a picture takes them; those of modalities come last. The yellow
#: is darker than Okabe and Ito's, to be seen as a line on white.
SERIES = (VERMILION, PURPLE, YELLOW, SKY, BLACK, BLUE, GREEN, ORANGE)
#: Of each modality by name, in the order in which they are stacked.
MODALITIES = {"text": "#7d8595", "image": GREEN, "video": BLUE, "audio": ORANGE}
#: Of the part of a bar that was dropped.
DROPPED = "#d5d9e2"
