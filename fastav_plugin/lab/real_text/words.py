"""The words that passages are made of; names and answers stand in no other sentence."""

FIRST = (
    *("Alice", "Bernard", "Clara", "Daniel", "Edith", "Felix", "Grace", "Henry", "Irene", "Jacob"),
    *("Karen", "Leonard", "Martha", "Norman", "Olivia", "Peter", "Rachel", "Simon", "Teresa"),
    *("Victor", "Wendy", "Arthur", "Beatrice", "Conrad", "Diana", "Edgar", "Fiona", "Gregory"),
)
LAST = (
    *("Abbott", "Barlow", "Carver", "Dalton", "Ellison", "Fletcher", "Garner", "Holloway"),
    *("Ingram", "Jenkins", "Keller", "Lambert", "Mercer", "Norton", "Osborne", "Parker"),
    *("Quinn", "Ramsey", "Sutton", "Thornton", "Underwood", "Vaughn", "Walton", "Yates"),
)
TOWNS = (
    *("Ashford", "Brixham", "Carlow", "Dunmore", "Elmstead", "Farnham", "Glenville", "Harwick"),
    *("Kingsley", "Lowell", "Milford", "Newbury", "Oakham", "Preston", "Redhill", "Salford"),
    *("Stanton", "Tilbury", "Upton", "Westbrook", "Whitby", "Yarmouth", "Bedford", "Chester"),
)
PETS = (
    *("Biscuit", "Pepper", "Ginger", "Shadow", "Marble", "Cookie", "Smokey", "Rusty", "Misty"),
    *("Tiger", "Velvet", "Whiskers", "Button", "Caramel", "Domino", "Pickle", "Sparky", "Toffee"),
)
JOBS = (
    *("baker", "carpenter", "dentist", "farmer", "gardener", "lawyer", "librarian", "mechanic"),
    *("nurse", "painter", "pilot", "plumber", "sailor", "surgeon", "tailor", "teacher", "weaver"),
    *("blacksmith", "chemist", "journalist", "photographer", "translator"),
)
COLOURS = (
    *("orange", "purple", "yellow", "green", "white", "black", "silver", "brown", "pink"),
    *("turquoise", "golden", "crimson"),
)
FOODS = (
    *("lentil soup", "apple pie", "mushroom risotto", "roast chicken", "potato salad"),
    *("cheese toast", "fish curry", "rice pudding", "onion tart", "pumpkin bread"),
    *("tomato stew", "lemon cake", "bean chili", "cherry jam", "garlic shrimp"),
)
HIDINGS = (
    *(
        "blue vase",
        "old boot",
        "tin box",
        "piano stool",
        "glass bowl",
        "wooden clock",
        "top drawer",
    ),
    *(
        "flower pot",
        "leather bag",
        "bread bin",
        "coat pocket",
        "tea pot",
        "paper lamp",
        "tool chest",
    ),
)
PLACES = (
    *(
        "the harbour office",
        "the old mill",
        "the village hall",
        "the corner shop",
        "the boat house",
    ),
    *("the museum", "the school library", "the railway station", "the town theatre"),
    *("the fire station", "the post office", "the bakery", "the sports club", "the chapel"),
)
VERBS = ("close", "clean", "check", "count", "cover", "lift", "move", "open", "watch", "lock")
THINGS = (
    *("gate", "boxes", "lamps", "windows", "benches", "ropes", "bottles", "bells", "ladders"),
    *("carts", "barrels", "shelves", "curtains", "candles", "baskets", "wheels"),
)
TIMES = ("sunset", "lunch", "dinner", "midnight", "breakfast", "winter", "Friday", "Sunday")
MANNERS = ("quietly", "slowly", "carefully", "twice", "together", "quickly", "always", "first")

#: What stands between the facts. Each place in brackets is one of the words below.
FILLER = (
    "The {quality} {scene} could be seen from the {view}.",
    "Nobody knew why the {scene} had become so {quality}.",
    "A {quality} wind came over the {view} and moved the leaves.",
    "People talked about the {scene} for most of the {season}.",
    "In the {season} the {view} was {quality} and almost empty.",
    "Some visitors walked along the {view} and took pictures.",
    "It had rained for days, and the {scene} was {quality} again.",
    "The {view} had not changed much since the last {season}.",
    "Children played near the {scene} until it was dark.",
    "Far away, behind the {view}, a dog barked at the {scene}.",
    "The newspaper wrote that the {scene} would be repaired in the {season}.",
    "On most days the {scene} was {quality}, and so was the {view}.",
)
FILLER_WORDS = {
    "quality": (
        *("quiet", "damp", "bright", "dusty", "narrow", "peaceful", "cold", "foggy", "lovely"),
        *("crowded", "strange", "gentle", "muddy", "plain"),
    ),
    "scene": (
        *("bridge", "market", "fountain", "tower", "orchard", "garden", "road", "square", "stairs"),
        *("fence", "statue", "canal", "barn", "lane"),
    ),
    "view": (
        *("hill", "river", "valley", "meadow", "lake", "forest", "coast", "field", "marsh"),
        *("cliff", "shore", "park"),
    ),
    "season": ("spring", "summer", "autumn", "month", "week", "year", "season", "holiday"),
}
