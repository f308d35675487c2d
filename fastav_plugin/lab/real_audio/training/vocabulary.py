"""The words of the spoken facts; some of the names occur in test clips alone."""

NAMES = tuple(
    """
    Adam Adrian Albert Alice Amanda Amelia Andrea Andrew Anna Arthur Barbara Beatrice Benjamin
    Bernard Brenda Brian Bruno Camilla Carla Caroline Catherine Cecilia Charles Charlotte Chloe
    Christian Clara Claudia Connor Daniel Daphne David Deborah Diana Dominic Dorothy Edgar Edward
    Eleanor Elizabeth Emily Emma Eric Ernest Esther Eva Felix Fiona Francis Frank Frederick
    Gabriel George Gerald Gloria Gordon Grace Hannah Harold Harry Heather Helen Henry Howard Hugo
    Ian Ingrid Irene Isabel Jack Jacob Jane Jasmine Jeremy Jessica Joan Jonathan Joseph Judith Julia
    Julian Karen Kenneth Kevin Kirsten Larry Laura Lawrence Leonard Linda Lionel Louise Lucas Lydia
    Marcus Margaret Maria Marian Martha Martin Matthew Michael Miranda Monica Nadia Natalie Nathan
    Nicholas Nina Nora Norman Oliver Olivia Oscar Patricia Patrick Paula Peter Philip Rachel Ralph
    Raymond Rebecca Richard Robert Roger Rosemary Russell Samantha Samuel Sandra Sarah Simon Sophie
    Stella Stephen Susan Teresa Thomas Timothy Valerie Vanessa Victor Vincent Virginia Walter Wendy
    William Winston Yvonne
    """.split()
)
#: In no training clip.
TEST_NAMES = tuple(
    """
    Agatha Alfred Angela Carmen Christopher Cynthia Dennis Douglas Evelyn Gregory Jennifer Leon
    Melissa Mildred Natasha Pamela Roland Sylvia Theodore Veronica
    """.split()
)
COLOURS = tuple("red blue green yellow black white purple orange pink brown grey silver".split())
CONTAINERS = tuple("box basket bag drawer bucket barrel chest jar suitcase crate".split())
THINGS = tuple(
    """
    apples lemons oranges pears potatoes onions carrots eggs books pencils candles bottles plates
    spoons shirts gloves hats boots coins stamps letters tickets maps buttons needles hammers nails
    ropes bricks stones shells feathers flowers mirrors lamps clocks bells drums kites balls
    """.split()
)
OBJECTS = tuple(
    """
    guitar camera bicycle ladder umbrella radio telescope carpet vase helmet blanket kettle piano
    sofa mattress microphone wallet laptop compass lantern anchor shovel trumpet violin statue
    """.split()
)
ROOMS = tuple(
    """
    kitchen cellar garage attic library garden bathroom bedroom office stable workshop hallway
    laboratory chapel theatre
    """.split()
)
CITIES = tuple(
    """
    Amsterdam Athens Berlin Boston Brussels Budapest Cairo Chicago Copenhagen Dallas Denver Dublin
    Edinburgh Florence Geneva Glasgow Hamburg Helsinki Houston Lisbon London Madrid Melbourne Miami
    Milan Montreal Moscow Munich Oslo Oxford Paris Prague Rome Seattle Sydney Tokyo Toronto Venice
    Vienna Warsaw Zurich
    """.split()
)
ROLES = tuple(
    """
    captain doctor teacher driver baker farmer judge lawyer mayor nurse pilot plumber poet painter
    butcher carpenter dentist engineer manager singer soldier tailor waiter gardener librarian
    mechanic secretary professor
    """.split()
)
EVENTS = tuple(
    """
    concert meeting wedding exam party lecture match interview parade auction festival race
    election funeral
    """.split()
)
DAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
MONTHS = tuple(
    """
    January February March April May June July August September October November December
    """.split()
)
ANIMALS = tuple(
    """
    horse cat dog parrot rabbit goat donkey turtle hamster snake sheep pony monkey duck goose
    """.split()
)
FOODS = tuple(
    """
    cheese chocolate rice soup salad fish bread honey mushrooms pancakes pizza coffee tea butter
    garlic strawberries noodles beans
    """.split()
)
INSTRUMENTS = tuple("flute cello harp organ drums banjo clarinet trombone accordion".split())
WEATHER = tuple("sunny rainy windy cloudy foggy snowy stormy cold".split())

_UNITS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen
    """.split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def in_words(number: int) -> str:
    """A number below 100 as it is spoken, in words with spaces between."""
    if number < 20:
        return _UNITS[number]
    ten, unit = divmod(number, 10)
    return _TENS[ten - 2] + (f" {_UNITS[unit]}" if unit else "")
