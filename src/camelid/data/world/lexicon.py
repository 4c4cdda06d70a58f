"""What everybody in the world knows: animals, things, causes, opposites, the calendar, kinds of things."""

from camelid.data.world.grammar import rows, words_of

DAYS = words_of(
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
)
MONTHS = words_of(
    "January February March April May June July August September October November December",
)
SEASONS = ("spring", "summer", "autumn", "winter")

ANIMALS = rows(
    "animal / sound / young / eats / legs",
    "a cow / moo / a calf / grass / 4",
    "a dog / woof / a puppy / bones / 4",
    "a cat / meow / a kitten / fish / 4",
    "a sheep / baa / a lamb / clover / 4",
    "a hen / cluck / a chick / seeds / 2",
    "a duck / quack / a duckling / bread / 2",
    "a horse / neigh / a foal / hay / 4",
    "a pig / oink / a piglet / apples / 4",
    "a frog / croak / a tadpole / flies / 4",
    "an owl / hoot / an owlet / mice / 2",
    "a lion / roar / a cub / meat / 4",
    "a goose / honk / a gosling / grain / 2",
)

CAUSES = rows(
    "when / then / why / because",
    "it rains / the ground gets wet / the ground is wet / because it rained",
    "the sun shines on snow / the snow melts / the snow is gone / because the sun melted it",
    "you drop a cup / the cup breaks / the cup is broken / because somebody dropped it",
    "you do not eat / you get hungry / people are hungry / because they did not eat",
    "you do not drink / you get thirsty / people are thirsty / because they did not drink",
    "you run a long way / you get tired / people are tired / because they ran a long way",
    "nobody waters a flower / the flower dries up / the flower is dry / because nobody watered it",
    "water gets very cold / the water turns to ice / there is ice on the lake / "
    "because the water got very cold",
    "the wind blows hard / the leaves fly away / the leaves fly away / because the wind blows hard",
    "a candle burns / the candle gets short / the candle is short / because it burned for a long time",
    "you touch the hot stove / you burn your hand / the stove burns your hand / because it is hot",
    "a cat sees a mouse / the cat runs after the mouse / the mouse runs away / because it saw a cat",
    "the sun goes down / it gets dark / it is dark outside / because the sun went down",
    "you leave milk in the sun / the milk turns sour / the milk is sour / because it stood in the sun",
    "you help a friend / the friend is happy / the friend is happy / because somebody helped",
    "you forget your coat in winter / you get cold / people are cold in winter / "
    "because they forgot their coats",
)

USES = rows(
    "tool / use",
    "a key / opening a door",
    "a lamp / making light",
    "an umbrella / staying dry",
    "a spoon / eating soup",
    "a broom / sweeping the floor",
    "a ladder / climbing up",
    "a needle / sewing clothes",
    "a clock / telling the time",
    "a bucket / carrying water",
    "a boat / crossing the lake",
    "a bed / sleeping",
    "a knife / cutting bread",
    "a brush / painting",
    "a bell / calling people",
)

MADE_FROM = rows(
    "product / source",
    "bread / flour",
    "cheese / milk",
    "butter / milk",
    "jam / berries",
    "juice / apples",
    "flour / wheat",
    "a chair / wood",
    "a scarf / wool",
    "a window / glass",
    "a horseshoe / iron",
    "a book / paper",
)

COLOURS_OF = rows(
    "object / colour",
    "grass / green",
    "snow / white",
    "the sky / blue",
    "the sun / yellow",
    "the night / black",
    "a lemon / yellow",
    "a strawberry / red",
    "a carrot / orange",
    "a pig / pink",
    "chocolate / brown",
    "a leaf / green",
    "milk / white",
)

OPPOSITES = rows(
    "one / other",
    "hot / cold",
    "big / small",
    "day / night",
    "happy / sad",
    "fast / slow",
    "old / young",
    "open / closed",
    "wet / dry",
    "full / empty",
    "light / dark",
    "loud / quiet",
    "up / down",
    "long / short",
    "early / late",
    "strong / weak",
    "clean / dirty",
)

# The members of a kind are named with their article, so that they can stand in any list.
KINDS = {
    "an animal": ("a cow", "a dog", "a cat", "a sheep", "a hen", "a duck", "a horse", "a pig", "a frog",
                  "an owl"),
    "a food": ("an apple", "a pear", "a plum", "a cake", "a potato", "a carrot", "a cheese", "a pancake"),
    "a piece of clothing": ("a hat", "a coat", "a scarf", "a shirt", "a shoe", "a sock"),
    "a toy": ("a kite", "a ball", "a doll", "a drum", "a toy boat", "a top"),
    "a tool": ("a hammer", "a broom", "a ladder", "a needle", "a spade", "a knife"),
    "a plant": ("a rose", "a tree", "a bush", "a daisy", "a tulip", "an oak"),
    "a place": ("a farm", "a mill", "a lake", "a forest", "a school", "a bakery"),
    "a piece of furniture": ("a table", "a chair", "a bed", "a shelf", "a bench", "a stool"),
}  # fmt: skip

COUNTED = words_of(
    "apples pears plums nuts eggs shells stones buttons pencils marbles flowers cakes books coins",
    "stars candles feathers carrots cookies balls",
)

# higher, lower, highest, lowest
SCALES = (
    ("taller", "shorter", "tallest", "shortest"),
    ("older", "younger", "oldest", "youngest"),
    ("faster", "slower", "fastest", "slowest"),
    ("heavier", "lighter", "heaviest", "lightest"),
    ("stronger", "weaker", "strongest", "weakest"),
    ("louder", "quieter", "loudest", "quietest"),
    ("richer", "poorer", "richest", "poorest"),
    ("happier", "sadder", "happiest", "saddest"),
)
