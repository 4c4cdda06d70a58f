"""Plots of wishes: a seed, a birthday, something to learn, something that two want to have."""

from camelid.data.world.grammar import rows
from camelid.data.world.plot import Plot

SEED = Plot(
    "seed",
    "a seed that grew",
    (
        rows(
            "seed / plant / harvest",
            "a round brown seed / a sunflower / a flower as tall as a door",
            "a flat white seed / a pumpkin plant / a pumpkin as big as a chair",
            "a tiny black seed / a poppy / a flower as red as a fire",
            "a hard green seed / a bean plant / so many beans that nobody could count them",
            "a pale yellow seed / a melon plant / a melon as round as the moon",
            "a small grey seed / a tomato plant / tomatoes as red as an evening sky",
        ),
        rows(
            "trouble / rescue",
            "the sun burned, and the leaves hung down / carried water from the river every morning",
            "snails came in the night and ate the leaves / carried every snail to the meadow",
            "a storm bent it to the ground / tied it to a strong stick",
            "weeds grew so thick that it had no light / pulled out all the weeds",
            "birds picked at it / made a scarecrow out of an old coat",
        ),
        rows(
            "share", "a feast", "a big soup for everybody", "a table at the market", "a party on the square"
        ),
    ),
    (
        '{time}, {gardener} the gardener gave {hero} {seed}. "[What will it become?|What is inside?]" asked {hero}. "[Wait and see|You will see]," said {gardener}.',
        "{hero} put the seed into the earth behind the house and watered it. [Every morning {he} ran out to look.|{he} wanted to see it grow.]",
    ),
    (
        '[For many days nothing happened. "It is sleeping," said {parent}.|Nothing happened for a long time, and {hero} almost forgot it.] Then one morning, there was a little green leaf.',
        'But soon there was trouble: {trouble}. [{hero} was worried.|"My poor plant!" cried {hero}.]',
        "But {he} did not give up. {he} {rescue}, and {friend} helped {him}.",
        "[Slowly|Day by day] the plant became strong again, and it grew and grew.",
    ),
    (
        "At the end of summer, it was {plant}, and it gave {hero} {harvest}.",
        '{hero} invited the whole village, and there was {share}. "[Who would have thought that of such a small seed|All that was in one little seed]!" [said|cried] {friend}.',
        '[{hero} kept one seed for the next year.|"You only have to care for it," said {hero}.|And {gardener} was proud of {hero}.]',
    ),
    "{hero} planted {seed}, cared for it, and it became {plant}.",
    (
        ("Who gave {hero} the seed?", "{gardener}"),
        ("What did the seed become?", "{plant}"),
        ("Who helped {hero} with the plant?", "{friend}"),
        ("What did {hero} do to save the plant?", "{he} {rescue}"),
    ),
)

BIRTHDAY = Plot(
    "birthday",
    "a birthday present",
    (
        rows(
            "present / make / need",
            "a cake / bake a cake / flour and eggs",
            "a kite / make a kite / paper and string",
            "a picture / paint a picture / paper and paint",
            "a scarf / knit a scarf / wool",
            "a little boat / build a little boat / wood and cloth",
            "a paper lamp / make a paper lamp / paper and a candle",
        ),
        rows(
            "mishap / second",
            "{pet_name} the {pet} jumped on the table, and everything fell down / closed the door and began again",
            "it began to rain through the open window, and everything got wet / dried the table and began again",
            "{he} fell asleep over the work and woke up late / washed {his} face and worked faster",
            "{he} was so excited that {he} did it all wrong / took a deep breath and began again",
            "a big wind blew everything out of the door / gathered it all up and began again",
        ),
        rows("wrap", "a green leaf", "a blue cloth", "an old map", "yellow paper", "a straw basket"),
    ),
    (
        "[Soon it would be|The next day was] {friend}'s birthday. {hero} had no money, but {he} wanted to give {friend_him} something nice.",
        '"{friend} loves the colour {friend_colour}," {he} thought. "I will {make}, with a lot of {friend_colour} on it!"',
    ),
    (
        "[First {he} needed {need}.|For that {he} needed {need}.] {parent} gave {him} what {he} needed, and {hero} worked all [morning|afternoon].",
        'But then {mishap}. "[Now it is spoiled|It is all ruined]!" cried {hero}, and a tear ran down {his} nose.',
        '"[Nobody is a master at once|You still have time]," said {parent}. So {hero} {second}.',
        "[Late in the evening|When the stars came out], it was ready. It was not perfect, but it was nice and {friend_colour}, and {hero} put it into {wrap}.",
    ),
    (
        "On the birthday, {friend} got many presents. But when {friend_he} [saw|opened] {hero}'s, {friend_his} eyes shone.",
        '"You made this yourself!" said {friend}. "[It is the best of all|I will always keep it]." [They ate {friend_food}, and everybody was happy.|Then they all danced, and there was {friend_food} to eat.]',
    ),
    "{hero} made {present} for {friend}'s birthday, and it was the best present of all.",
    (
        ("Whose birthday was it?", "{friend}'s"),
        ("What did {hero} make?", "{present}"),
        ("Which colour did the present have?", "{friend_colour}"),
        ("What did {hero} put the present into?", "{wrap}"),
    ),
)

SKILL = Plot(
    "skill",
    "learning to {skill}",
    (
        rows(
            "skill / fail / advice / teacher_job / prize / time",
            "swim / went under and swallowed water / lie on the water like a leaf and breathe / fisher / swam all the way to the little island / {any_time}",
            "bake bread / got a loaf as hard as a stone / give the dough time to rest / baker / pulled a golden loaf out of the oven / {any_time}",
            "ride / slid down on the other side / hold on with your knees and look ahead / farmer / rode once around the whole farm / {any_time}",
            "whistle / blew and blew, but only air came out / make your lips small and blow softly / miller / whistled a whole song / {any_time}",
            "skate / sat on the ice more than {he} stood on it / bend your knees and push to the side / teacher / skated in a big round circle / one winter day",
            "row a boat / went round and round in a circle / pull both sides at the same time / fisher / rowed straight across the lake / {any_time}",
            "juggle / had to pick up the balls again and again / look up at the balls and not at your hands / smith / juggled with three balls / {any_time}",
        ),
        rows(
            "reason",
            "everybody else could do it",
            "there would be a feast on Sunday",
            "{he} had dreamed of it all winter",
            "{friend} could do it so well",
            "{he} wanted to surprise {parent}",
        ),
        rows("times", "three days", "a whole week", "many days", "five days"),
    ),
    (
        "{hero} wanted to {skill}, because {reason}. [But {he} did not know how.|But it looked so hard.]",
        '{time}, {he} tried it for the first time. {hero} {fail}. ["I will never learn it!" {he} said.|Some children laughed, and {hero} turned red.]',
    ),
    (
        '{teacher} the {teacher_job} had [seen it|watched {him}]. "[Shall I tell you a secret|Do you want to know how I learned it]?" {teacher_he} asked. "You must {advice}."',
        "{hero} tried again. {he} {fail} again, but [this time it was a little better|not as badly as before].",
        '[{friend} sat beside {him} and said, "Once more!"|"Do not stop now," said {friend}.] So {hero} practised for {times}, in the morning and in the evening.',
    ),
    (
        "[Then, all at once, it went well.|And one day, {he} could do it.] {hero} {prize}, and {friend} clapped {friend_his} hands.",
        '"[You did not give up, and that is the whole secret|I knew that you could do it]," said {teacher}. [{hero} smiled from ear to ear.|That night {hero} was too happy to sleep.|A year later, {hero} taught it to the little ones.]',
    ),
    "{hero} learned to {skill}, because {teacher} gave {him} good advice and {he} did not give up.",
    (
        ("What did {hero} want to learn?", "to {skill}"),
        ("Who gave {hero} advice?", "{teacher}"),
        ("Why did {hero} want to {skill}?", "because {reason}"),
        ("How long did {hero} practise?", "for {times}"),
    ),
)

QUARREL = Plot(
    "quarrel",
    "a quarrel about {thing}",
    (
        rows(
            "thing / do / solution",
            "a swing / sit on it first / counted to twenty, and then it was the other one's turn",
            "a big puddle / sail a boat on it alone / built two boats and let them race",
            "the last pear / eat it / cut it in the middle, and each got a half",
            "an old drum / play it / took turns, and one sang while the other one drummed",
            "a long rope / have it / tied it to a tree, and both of them could climb",
            "a sledge / sit in front / changed places every time they went down",
            "a box of paints / paint the sky with the blue / painted one big picture together",
        ),
        rows(
            "damage",
            "{hero} pulled, {friend} pulled, and both of them fell into the mud",
            "they shouted so loud that the birds flew away",
            "{hero} went to the left, {friend} went to the right, and nobody played at all",
            "{friend} pushed {hero}, and {hero} pushed back",
        ),
        rows(
            "peace / wise",
            "it was so boring alone / {teacher_of_all}",
            "{he} missed {his} friend / {parent}",
            "the sun was shining and nobody laughed / {doctor}",
            "being angry made {him} tired / {miller}",
        ),
    ),
    (
        '{time}, {hero} and {friend} found {thing}. "[I saw it first|It is mine]!" cried {hero}. "[No, I did|No, mine]!" cried {friend}.',
        "Both of them wanted to {do}. So they began to quarrel: {damage}.",
    ),
    (
        '"[I will never play with you again|You are not my friend any more]!" said {friend} and walked away.',
        "Now {hero} could {do}. But it was no fun, because {peace}.",
        '{wise} saw {him} sitting there. "[What is a toy without a friend|Do you want to be right, or do you want to be happy]?" {wise} asked.',
        '{hero} thought about it. Then {he} ran after {friend}. "I am sorry," {he} said. "[Let us do it together|Can we start again]?" "I am sorry too," said {friend}.',
    ),
    (
        "So they {solution}. [It was much more fun than before.|They laughed until their bellies hurt.]",
        '[In the evening, they walked home arm in arm.|"We could have done that at once," said {friend}.|And when the moon came up, they were still playing.]',
    ),
    "{hero} and {friend} quarrelled about {thing}, but then they said sorry and shared it.",
    (
        ("What did {hero} and {friend} quarrel about?", "{thing}"),
        ("Who talked to {hero}?", "{wise}"),
        ("Why was it no fun alone?", "because {peace}"),
        ("What did the two friends do in the end?", "they {solution}"),
    ),
)

PLOTS_OF_WISHES = (SEED, BIRTHDAY, SKILL, QUARREL)
