"""Made media files, each with what a player shows of it."""

from tests.media.made.changing import CHANGING
from tests.media.made.clocks import CLOCKS
from tests.media.made.containers import CONTAINERS
from tests.media.made.damage import DAMAGE
from tests.media.made.depths import DEPTHS
from tests.media.made.oddities import ODDITIES
from tests.media.made.offsets import OFFSETS
from tests.media.made.pictures import PICTURES
from tests.media.made.presentation import PRESENTATION
from tests.media.made.sounds import SOUNDS
from tests.media.made.table import MadeFile
from tests.media.made.timelines import TIMELINES
from tests.media.made.tracks import TRACKS

MADE: dict[str, list[MadeFile]] = {
    "containers": CONTAINERS,
    "timelines": TIMELINES,
    "offsets": OFFSETS,
    "clocks": CLOCKS,
    "presentation": PRESENTATION,
    "tracks": TRACKS,
    "changing": CHANGING,
    "oddities": ODDITIES,
    "damage": DAMAGE,
    "pictures": PICTURES,
    "depths": DEPTHS,
    "sounds": SOUNDS,
}
FILES: dict[str, MadeFile] = {
    f"{kind}/{made.name}": made for kind, table in MADE.items() for made in table
}
