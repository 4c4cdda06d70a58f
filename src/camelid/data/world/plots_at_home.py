"""Plots at home: things lost, broken or stuck, an animal in trouble, a noise, a day of work."""

from camelid.data.world.grammar import rows
from camelid.data.world.plot import Plot

LOST = Plot(
    "lost",
    "a lost {thing}",
    (
        rows(
            "thing",
            "red kite",
            "silver bell",
            "wooden boat",
            "blue ball",
            "storybook",
            "warm hat",
            "little drum",
            "tin whistle",
        ),
        rows(
            "at / miss / under",
            "in the orchard / behind the ladder / under the tallest apple tree",
            "at the lake / between the boats / in the tall grass by the water",
            "in the meadow / along the white fence / beside a sleeping sheep",
            "on the square / behind the market stalls / on the edge of the well",
            "in the forest / under the ferns / on a bed of green moss",
            "on the hill / around the big stone / at the foot of the old tower",
            "at the river / among the reeds / under the stone bridge",
        ),
        rows(
            "excuse",
            "it began to rain, and I ran home",
            "I was in a hurry",
            "I stopped to pick berries",
            "I heard the school bell and ran",
            "I was so tired that I forgot it",
        ),
    ),
    (
        "[{time}, {hero} wanted to play with {his} {thing}, but it was gone.|{time}, {hero} could not find {his} {thing}.]",
        "{he} looked [under the bed and behind the door|in the big box and under the table|in every corner of the house], but it was not there.",
        "[{hero} felt very sad.|{hero} sat down on the steps and cried a little.|Without it, {hero} did not want to play at all.]",
    ),
    (
        '{friend} came by and asked, "[Why do you look so sad|What is wrong], {hero}?"',
        '"I have lost my {thing}," [said {hero}|{hero} said].',
        '"Where did you have it last?" asked {friend}. {hero} thought hard. "{at}, I think. But {excuse}."',
        "So the two friends went back to look for it. {on_the_way} First they looked {miss}, but they found only [an old shoe|some wet leaves|a snail|a feather].",
        "[Then {friend} stopped. Something was lying {under}.|Then {hero} saw something {under}.] It was the {thing}!",
    ),
    (
        '{hero} [laughed|jumped for joy|was so happy that {he} danced]. "[Thank you, {friend}|You are a true friend, {friend}]!" {he} said.',
        "[From that day on, {hero} put {his} {thing} away every evening.|After that, {hero} always took good care of {his} {thing}.|The two friends played with it until the sun went down.]",
    ),
    "{hero} lost {his} {thing}, and {friend} helped {him} to find it {under}.",
    (
        ("What had {hero} lost?", "{his} {thing}"),
        ("Who helped {hero} to look for it?", "{friend}"),
        ("Where was the {thing}?", "{under}"),
        ("Why was {hero} sad?", "because {he} had lost {his} {thing}"),
    ),
)

BROKEN = Plot(
    "broken",
    "a broken {thing}",
    (
        rows(
            "thing / mend / with",
            "blue cup / glued / strong glue",
            "clay pot / glued / strong glue",
            "honey jar / glued / strong glue",
            "wooden chair / nailed / a hammer and nails",
            "little table / nailed / a hammer and nails",
            "kitchen shelf / nailed / a hammer and nails",
            "paper lamp / patched / paper and glue",
        ),
        rows(
            "play / play_i / crash",
            "was playing with a ball in the house / played with a ball in the house / the ball flew too far and hit the {thing}",
            "was running around the table / ran around the table / {he} slipped and fell against the {thing}",
            "was dancing with closed eyes / danced with closed eyes / {he} turned too fast and bumped into the {thing}",
            "was chasing {pet_name} the {pet} / chased {pet_name} / {pet_name} jumped up and knocked into the {thing}",
            "was playing the pirate with a long stick / played the pirate with a stick / the stick caught the {thing}",
        ),
    ),
    (
        '{time}, {hero} {play}. {parent} had said, "[Please be careful|Please play outside]." But {hero} did not listen.',
        "[Suddenly|Then it happened:] {crash}. The {thing} was broken.",
    ),
    (
        "{hero} was afraid that {his} {parent_word} would be angry. [First {he} hid behind the door.|First {he} wanted to hide under the bed.|For a while {he} did not know what to do.]",
        "[But {he} did not feel good there.|But a secret is a heavy thing.|But hiding did not make it better.] So {he} went to {parent} and told the truth.",
        '"I broke the {thing} because I {play_i}," {he} said. "I am sorry."',
        '{parent} was [quiet for a moment|not happy]. Then {parent_he} said, "I am glad that you told me. Let us mend it together."',
        "They took {with}, and {hero} held the pieces while {parent} {mend} them.",
    ),
    (
        "[In the evening|At last|After an hour], the {thing} was whole again. You could still see where it had been broken.",
        '[{hero} learned that the truth is better than hiding.|"Now it tells a story," said {parent}, and both of them laughed.|Since then, {hero} plays outside when {he} wants to run and jump.]',
    ),
    "{hero} broke the {thing}, told the truth, and mended it with {parent}.",
    (
        ("What was broken?", "the {thing}"),
        ("Who helped {hero} to mend it?", "{parent}"),
        ("What did they use to mend it?", "{with}"),
        ("Why was {hero} afraid?", "because {he} had broken the {thing}"),
    ),
)

HURT_ANIMAL = Plot(
    "hurt animal",
    "{creature} in trouble",
    (
        rows(
            "creature / it / trouble / cure",
            "a small bird / bird / could not fly because its wing was hurt / put a soft bandage around the wing",
            "a young fox / fox / could not walk because a thorn was in its foot / pulled out the thorn and washed the foot",
            "a little owl / owl / sat in the cold rain because it had fallen from its nest / dried it and laid it in a warm box",
            "a grey kitten / kitten / was weak because it had not eaten for days / gave it warm milk with a spoon",
            "a brown hare / hare / could not run because its leg was caught in a string / cut the string and looked at the leg",
            "a young swan / swan / could not swim because a fishing line held it / cut the line with small scissors",
        ),
        rows(
            "at / carry",
            "in the forest / in {his} hat",
            "at the lake / in {his} arms",
            "in the meadow / in a basket",
            "on the hill / under {his} coat",
            "at the river / in a soft scarf",
            "behind the mill / in {his} arms",
        ),
    ),
    (
        "{time}, {hero} was walking {at} when {he} heard a soft cry.",
        "{he} looked around and found {creature}. The {it} {trouble}.",
    ),
    (
        '"[Do not be afraid|I will help you|You poor thing]," {hero} [whispered|said softly].',
        "[At first the {it} was afraid, but {hero} sat very still and waited.|{hero} moved slowly because {he} did not want to frighten it.]",
        "Then {he} carried the {it} {carry} to {doctor_home}, because {doctor} knows how to help.",
        '{doctor} {cure}. "[It needs rest now|Now it must sleep]," {doctor_he} said. "[Will you look after it?|Can it stay with you?]"',
        "{hero} nodded. Every [day|morning and every evening], {he} gave the {it} water and food, and {friend} [helped|came to help] {him}.",
    ),
    (
        "[After a week|After ten days|When the moon was round], the {it} was well and strong again.",
        "{hero} took it back to the place where {he} had found it. The {it} [looked at {him} once more|turned around one last time], and then it was gone.",
        '[{hero} was a little sad, but also very proud.|"Goodbye, my friend," said {hero}.|And sometimes, when {hero} is there, {he} sees it from far away.]',
    ),
    "{hero} found {creature} that was in trouble, and {doctor} the doctor helped it.",
    (
        ("What did {hero} find?", "{creature}"),
        ("Where did {hero} find it?", "{at}"),
        ("Who made the {it} well?", "{doctor}"),
        ("Who helped {hero} to look after the {it}?", "{friend}"),
    ),
)

STRANGE_NOISE = Plot(
    "noise",
    "a strange noise",
    (
        rows(
            "noise / cause / calm",
            "a long hoo, hoo / an owl that sat on the roof / looked at them with big yellow eyes",
            "a knock, knock, knock / a branch that the wind beat against the wall / moved up and down in the wind",
            "a low creak / the old door that nobody had closed / swung slowly to and fro",
            "a drip, drip, drip / the rain that ran through a hole in the roof / fell into an empty bucket",
            "a scratch, scratch / a mouse that was building a nest / looked at them and ran away",
            "a soft ring, ring / a cat with a little bell / sat in the moonlight and washed its face",
        ),
        rows("monster", "a ghost", "a dragon", "a giant", "a thief", "a big bear"),
        rows(
            "light / way",
            "a candle / down the stairs",
            "a lamp / across the yard",
            "a lamp / up to the attic",
            "a candle / through the dark hall",
        ),
    ),
    (
        "[It was a dark night|One night the moon hid behind the clouds|Late one evening, all was still], and {hero} lay in bed {home}.",
        "Suddenly {he} heard {noise}. [{his} heart beat fast.|{he} pulled the blanket over {his} head.|{he} sat up and listened.]",
        '"That must be {monster}," {he} [thought|whispered].',
    ),
    (
        '{hero} could not sleep, so {he} woke {parent}. "[Please come|Listen]!" {he} said. "I heard {monster}!"',
        '"[Let us look together|Shall we go and see]," said {parent}. "A thing that you know is not so frightening."',
        "{parent} took {light}, and hand in hand they went {way}. {noise} came again, and {hero} [held {parent} tight|wanted to run away]. But {he} went on.",
        "Then the light fell on {cause}. It {calm}.",
    ),
    (
        '"It was not {monster} at all!" cried {hero}, and {he} began to laugh.',
        "[They drank warm milk in the kitchen, and then {hero} slept until the morning.|Soon {hero} was back in bed, and now the noise was like a song.|After that night, {hero} was not afraid of noises any more. {he} took a lamp and looked.]",
    ),
    "{hero} was afraid of {monster}, but the noise came from {cause}.",
    (
        ("What did {hero} hear?", "{noise}"),
        ("What did {hero} think it was?", "{monster}"),
        ("What made the noise?", "{cause}"),
        ("Who went with {hero}?", "{parent}"),
    ),
)

STUCK = Plot(
    "stuck",
    "a {thing} that was stuck",
    (
        rows(
            "thing / high / first / second",
            "kite / in the top of the old oak / pulled at the string, but it only got tighter / climbed the tree, but the branches were too thin",
            "ball / on the roof of the school / threw a stick at it, but it did not move / jumped as high as {he} could, but the roof was too high",
            "toy boat / among the reeds, far from land / called and waved, but a boat has no ears / threw stones to make waves, but it drifted farther away",
            "paper bird / on the wall of the old tower / blew as hard as {he} could, but it stayed there / stood on a box, but the box was too low",
            "hat / on a branch over the river / shook the tree, but the hat held on / reached for it with a rake, but the rake was too short",
        ),
        rows(
            "helper_job / tool",
            "farmer / a long ladder",
            "fisher / a long fishing rod",
            "smith / a pole with an iron hook",
            "gardener / the tall apple ladder",
        ),
        rows(
            "favour",
            "carry the wood",
            "feed the hens",
            "sweep the yard",
            "water the flowers",
            "wash the windows",
        ),
    ),
    (
        "{time}, {hero} and {friend} were playing with a {thing}. [It was a windy day.|The wind was strong.|They ran and laughed.]",
        "[Then a gust of wind came|Suddenly the wind took it|{friend} let go for just one moment], and the {thing} ended up {high}.",
    ),
    (
        '"[Oh no|What now]!" cried {friend}. "[We will get it back|Do not worry]," said {hero}.',
        "First {hero} {first}. Then {he} {second}.",
        "[They were about to give up|They sat down and thought] when {helper} the {helper_job} came along.",
        '"[Sometimes you need strong arms, sometimes a good idea, and sometimes the right tool|I think I have the right thing for that]," said {helper}, and {helper_he} fetched {tool}.',
        "With {tool} it was easy. [In a moment|Soon] the {thing} was safe in {hero}'s hands.",
    ),
    (
        '"How can we thank you?" asked {hero}. "[You can help me to|Come tomorrow and] {favour}," said {helper} with a smile.',
        "[So the next day, {hero} and {friend} came to {favour}, and it was fun.|And that is what the two friends did, singing all the while.]",
    ),
    "The {thing} of {hero} and {friend} was stuck {high}, and {helper} got it back with {tool}.",
    (
        ("What was stuck?", "the {thing}"),
        ("Where was the {thing} stuck?", "{high}"),
        ("Who helped the children?", "{helper}"),
        ("What did {helper} use?", "{tool}"),
    ),
)

WORK = Plot(
    "work",
    "helping {worker} the {worker_job}",
    (
        rows(
            "worker_job / task / mistake / fix",
            "baker / bring the bread to all the houses / the bread baskets got mixed up / asked at every door who wanted what",
            "farmer / feed the cows and hens / the gate stayed open, and the hens ran away / called them back with a bowl of seeds",
            "gardener / water the flowers / the bucket had a hole, and the water was gone / closed the hole with a piece of clay",
            "miller / carry the flour to the bakery / a sack tore, and flour fell like snow / tied the sack with a strong string",
            "fisher / sell the fish on the square / nobody came to buy the fish / sang a funny song until everybody came",
            "teacher / read to the little ones / the little ones would not sit still / made the voices of all the animals in the book",
        ),
        rows(
            "ill / why",
            "had a cold / {worker_he} had walked home in the rain",
            "had a sore foot / {worker_he} had slipped on a wet stone",
            "had a headache / {worker_he} had worked all night",
            "had hurt {worker_his} hand / {worker_he} had lifted a heavy box",
            "had lost {worker_his} voice / {worker_he} had sung too long at the feast",
        ),
        rows("gift", "a warm bun", "a shiny coin", "a jar of honey", "a red scarf", "a little wooden horse"),
    ),
    (
        '{time}, {worker} the {worker_job} {ill}, because {why}. "Who will {task}?" {worker_he} [asked|sighed].',
        '{hero} heard it. "[I can do that|Let me try]," {he} said. "[You stay in bed and rest|You must rest]."',
    ),
    (
        "So {hero} went to work, and {friend} came along to help. {on_the_way}",
        'But it was not so easy: {mistake}. ["What shall we do now?" asked {friend}.|{friend} wanted to give up.|For a moment {hero} wanted to cry.]',
        '[{hero} thought for a while.|"I have an idea," said {hero}.|"Let us think," said {hero}.] Then {he} {fix}.',
        "[That helped|It worked], and before the sun went down, all the work was done.",
    ),
    (
        '[The next day|A few days later], {worker} was well again. {worker_he} gave {hero} {gift} and said, "[Without you, I would have been lost|Nobody could have done it better]."',
        "[{hero} shared it with {friend}, of course.|{hero} was tired, but very proud.|Since that day, {hero} knows how much work it is to be a {worker_job}.]",
    ),
    "{worker} the {worker_job} {ill}, so {hero} did the work.",
    (
        ("Who could not work?", "{worker}"),
        ("Why could {worker} not work?", "because {worker_he} {ill}"),
        ("What did {worker} give to {hero}?", "{gift}"),
        ("Who came along to help {hero}?", "{friend}"),
    ),
)

PLOTS_AT_HOME = (LOST, BROKEN, HURT_ANIMAL, STRANGE_NOISE, STUCK, WORK)
