"""Plots on the road: bad weather, a race, a pet that ran away, a stranger."""

from camelid.data.world.grammar import rows
from camelid.data.world.plot import Plot

STORM = Plot(
    "storm",
    "a day in {weather}",
    (
        rows(
            "weather / sign / effect / forgot / time",
            "the rain / dark clouds came over the hill / their clothes were wet and their shoes were full of water / coat / {any_time}",
            "the snow / big white flakes fell from the sky / they could not see the path any more / gloves / one winter [morning|day]",
            "the fog / a white fog came up from the river / they could not see their own hands / lamp / {any_time}",
            "a storm / the wind began to howl / branches fell down around them / hat / {any_time}",
            "the hail / little balls of ice fell from the sky / their ears hurt / cap / {any_time}",
        ),
        rows(
            "goal / warning",
            "to look for mushrooms in the forest / the birds fly low today",
            "to sail boats on the river / my knee hurts, so the weather will change",
            "to see the old tower on the hill / there is a ring around the sun",
            "to visit the sheep in the meadow / the ants are going home",
            "to catch fish at the lake / the wind smells of rain",
        ),
        rows(
            "shelter / host / warm",
            "the mill / {miller} / warm bread with butter",
            "the house of the fisher / {fisher} / hot soup",
            "the forge / {smith} / a place beside the fire",
            "the garden cottage / {gardener} / hot tea with honey",
            "the barn / {farmer} / warm milk and a blanket",
        ),
    ),
    (
        '{time}, {hero} and {friend} wanted {goal}. "Take your {forgot} along," said {parent}. "{warning}."',
        "[But the sun was shining, and {hero} only laughed.|But {hero} was already out of the door.] So {he} went without it.",
    ),
    (
        '{on_the_way} They had walked for an hour when {sign}. ["We must go back," said {friend}.|"Look!" cried {friend}.] But it was too late. Soon {effect}.',
        '{hero} was cold, and {friend} was afraid. "[Give me your hand|Stay close to me]," said {hero}. "[Let us walk slowly|We will find the way]."',
        "[After a long time|At last] they saw a light. It was {shelter}! They knocked, and {host} opened the door.",
        '"[You look like two wet mice|Come in, come in]!" said {host}, and gave them {warm}.',
    ),
    (
        "[When it was over|An hour later], {host} brought the children home. {parent} [was so glad that {parent_he} did not scold|took {hero} into {parent_his} arms].",
        '[Since then, {hero} listens when somebody knows the weather.|"Next time I will take my {forgot}," said {hero}.|"The weather does not laugh," said {hero}, and {parent} had to smile.]',
    ),
    "{hero} went out without {his} {forgot}, got into {weather}, and {host} gave {him} shelter.",
    (
        ("What did {hero} not take along?", "{his} {forgot}"),
        ("Where did the children find shelter?", "in {shelter}"),
        ("Who opened the door?", "{host}"),
        ("What did {host} give them?", "{warm}"),
    ),
)

RACE = Plot(
    "race",
    "a race {course}",
    (
        rows(
            "course / mark",
            "around the lake / the big willow",
            "up the hill / the old tower",
            "across the meadow / the white fence",
            "through the orchard / the long ladder",
            "along the river / the stone bridge",
        ),
        rows(
            "rival_trouble / aid",
            "fell over a root and held {rival_his} foot / let {rival_him} lean on {his} arm",
            "stepped into a hole and could not get up / pulled {rival_him} up with both hands",
            "ran into a bush and was full of thorns / pulled out the thorns one by one",
            "slipped into the water and lost a shoe / fished out the shoe with a branch",
            "was out of breath and very pale / gave {rival_him} water and waited",
        ),
        rows("prize", "a golden cup", "a big cake", "a basket of apples", "a new ball", "a crown of flowers"),
    ),
    (
        "[Every year there is a race {course}.|One Sunday there was a race {course}.] The prize was {prize}. {hero} had practised for weeks, because {he} wanted to win.",
        '"[Ready, steady, go|One, two, three, go]!" called {teacher_of_all}. {hero} ran like the wind, and soon only {rival} was beside {him}.',
    ),
    (
        "They came to {mark}. There {rival} {rival_trouble}. The others were far behind.",
        '[Now {hero} could win! {he} looked ahead, and {he} looked back.|{hero} could see the goal already. {he} stopped.] "[Run on|You will lose]!" said {rival}.',
        'But {hero} shook {his} head. "[What is a cup worth if a friend is hurt?|A race comes every year, a friend does not.]" And {he} {aid}.',
        "[Meanwhile the others passed them|While they stood there, all the others ran past], and {winner} won the race.",
    ),
    (
        "{hero} and {rival} came in last, side by side. [Everybody clapped, even louder than for the winner.|And the whole village cheered.]",
        'When {winner} got {prize}, the children were silent. "[We will share it|It belongs to all of us]," said {winner}. [So there were three winners that day.|And {rival} and {hero} have been good friends ever since.]',
    ),
    "{hero} could have won the race, but {he} stopped to help {rival}.",
    (
        ("Who won the race?", "{winner}"),
        ("What was the prize?", "{prize}"),
        ("Whom did {hero} help?", "{rival}"),
        ("Where did {rival} get into trouble?", "at {mark}"),
    ),
)

RUNAWAY = Plot(
    "runaway",
    "{pet_name} the {pet}, who ran away",
    (
        rows(
            "scare",
            "thunder rolled over the village",
            "{smith} dropped a big hammer",
            "a cart full of pots fell over",
            "the school bell rang right beside it",
            "a strange dog barked at it",
        ),
        rows(
            "sign / hiding",
            "little footprints in the mud / in the hay of the barn",
            "a hair on the fence / between two sacks in the mill",
            "a trail of seeds / under the stone bridge",
            "a bent flower / behind the pots in the garden",
            "an empty bowl / under a table at the market",
        ),
        rows(
            "lure / trust",
            "{his} whistle / whistled the song that {pet_name} knew",
            "a little food / held out {his} hand with food",
            "{his} voice / called its name, softly and slowly",
            "an old blanket / laid down the blanket on which it slept",
        ),
    ),
    (
        "{hero} loved {his} {pet} {pet_name} more than anything. [Wherever {hero} was, {pet_name} was not far.|They did everything together.]",
        "But {any_time} {scare}, and {pet_name} was so frightened that it ran away.",
    ),
    (
        '"[{pet_name}, come back|{pet_name}! {pet_name}]!" cried {hero}. [{he} ran up and down the road.|But {pet_name} was gone.] {friend} heard it and came at once.',
        '"[A {pet} cannot fly to the moon|It cannot be far]," said {friend}. "[Let us look for a trace|We will ask everybody]."',
        'They asked {farmer} and they asked {baker}, but nobody had seen it. Then {friend} found {sign}. "[This way|Come]!" {friend_he} whispered.',
        "And there it was, {hiding}, [shaking all over|very small and very quiet]. {hero} did not run to it. {he} sat down on the ground and {trust}.",
    ),
    (
        "[One step, two steps, three steps|Slowly, slowly], {pet_name} came out and laid its head on {hero}'s knee.",
        '["You are safe now," said {hero}.|{hero} carried it all the way home.] [That night, {pet_name} was allowed to sleep in {hero}\'s room.|"If you are afraid, run to me and not away," said {hero}.|And {friend} got a lot of {food} for it.]',
    ),
    "{pet_name} the {pet} ran away because {scare}, and {hero} and {friend} found it {hiding}.",
    (
        ("Who ran away?", "{pet_name}"),
        ("Why did {pet_name} run away?", "because {scare}"),
        ("Where did they find {pet_name}?", "{hiding}"),
        ("What did {friend} find?", "{sign}"),
    ),
)

STRANGER = Plot(
    "stranger",
    "{guest} who came to the village",
    (
        rows(
            "guest / short / gift / gift_use",
            "an old man with a grey beard / old man / a wooden flute / played it by the fire on many evenings",
            "a woman with a heavy bag / woman / a bag of rare seeds / planted them in spring",
            "a sailor without a ship / sailor / a big white shell / heard the sea in it",
            "a young man with a broken cart / young man / a wheel that spins / made it spin for all the children",
            "an old lady with a donkey / old lady / a bell from the donkey / hung it over the door",
            "a clown with a torn coat / clown / a red nose / made everybody laugh with it",
        ),
        rows(
            "lack / give",
            "was hungry / half of {his} {food}",
            "was thirsty / a cup of cold milk",
            "was cold / {his} warm blanket",
            "was tired / a bed of hay in the barn",
            "had lost the way / a map of the hills",
        ),
        rows(
            "afraid",
            "had important things to do",
            "did not like strangers",
            "were in a hurry because of the market",
            "only looked out of their windows",
        ),
    ),
    (
        "{time}, {guest} came to Willowby. The {short} {lack} and [knocked at many doors|asked for help].",
        "But the people {afraid}, and nobody opened the door.",
    ),
    (
        '{hero} saw it from {his} window. "[Why does nobody help?|That is not right!]" {he} cried.',
        '"[We do not know that person|Be careful]," said {friend}. "[Then let us go together|A person without help is sad, and that I know]," said {hero}.',
        "So they went out, and {hero} gave the {short} {give}. [The {short} smiled and told them about far lands.|They sat on the steps, and the {short} told them stories of the sea.]",
        "[By and by, the neighbours came to listen|One door after the other opened], and {parent} brought {food} for everybody.",
    ),
    (
        'In the morning, the {short} was gone, but on the step there lay {gift}. ["For the one who opened the door," said a little note.|A note said, "Thank you."]',
        '{hero} {gift_use}. [And in Willowby, nobody ever closed the door on a stranger again.|And {he} never forgot the {short}.|"I wonder who will come next," {he} said.]',
    ),
    "{hero} helped {guest}, and got {gift} as thanks.",
    (
        ("Who came to the village?", "{guest}"),
        ("What did {hero} give to the {short}?", "{give}"),
        ("What did the {short} leave behind?", "{gift}"),
        ("Who went out with {hero}?", "{friend}"),
    ),
)

PLOTS_ON_THE_ROAD = (STORM, RACE, RUNAWAY, STRANGER)
