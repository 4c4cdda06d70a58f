"""Solved questions for BIG-Bench Hard, movies to word sorting, as in `bbh_exemplars_b_to_l.py`."""

_YES_NO = "Options:\n- Yes\n- No"
_RETURN = "If you follow these instructions, do you return to the starting point?"
_PENGUINS = (
    "Here is a table where the first line is a header and each subsequent line is a penguin:  name, "
    "age, height (cm), weight (kg) Nils, 4, 60, 12 Pia, 9, 75, 14 Otto, 6, 55, 10 Runa, 2, 45, 8  For "
    "example: the age of Nils is 4, the weight of Runa is 8 kg, the height of Pia is 75 cm. "
)
_RUINED = "Which of the following is a humorous edit of this artist or movie name:"
_ERRORS = (
    "The following translations from German to English contain a particular error. That error will be "
    "one of the following types: Named Entities: An entity (names, places, locations, etc.) is changed "
    "to a different entity. Numerical Values: Numerical values (ordinals or cardinals), dates, and/or "
    "units are changed. Modifiers or Adjectives: The modifiers and adjectives pertaining to a noun are "
    "changed. Negation or Antonyms: Introduce or remove a negation or change comparatives to their "
    "antonyms. Facts: Trivial factual errors not pertaining to the above classes are introduced in the "
    "translations. Dropped Content: A significant clause in the translation is removed. Please identify"
    " that error.  Source:"
)
_CONTAINS = (
    "The translation contains an error pertaining to\nOptions:\n(A) Modifiers or Adjectives\n(B) "
    "Numerical Values\n(C) Negation or Antonyms\n(D) Named Entities\n(E) Dropped Content\n(F) Facts"
)
_HATS_OF_FIVE = (
    "Ada, Ben, Cleo, Dan, and Eli each have a hat: Ada has a red one, Ben has a blue one, Cleo has a "
    "green one, Dan has a black one, and Eli has a white one."
)
_FIVE_COLOURS = "Options:\n(A) red\n(B) blue\n(C) green\n(D) black\n(E) white"
_HATS_OF_SEVEN = (
    "Ada, Ben, Cleo, Dan, Eli, Fay, and Gus each have a hat: Ada has a red one, Ben has a blue one, "
    "Cleo has a green one, Dan has a black one, Eli has a white one, Fay has a yellow one, and Gus has "
    "a brown one."
)
_SEVEN_COLOURS = f"{_FIVE_COLOURS}\n(F) yellow\n(G) brown"

PROMPTS = {
    "movie_recommendation": """\
Q: Find a movie similar to Jaws, Alien, The Exorcist, Psycho:
Options:
(A) Mary Poppins
(B) The Shining
(C) Grease
(D) Toy Story
A: All four are famous horror films. Of the options, only The Shining is one too. So the answer is (B).
Q: Find a movie similar to Finding Nemo, Shrek, Cars, Madagascar:
Options:
(A) Ice Age
(B) Goodfellas
(C) Platoon
(D) Taxi Driver
A: All four are animated comedies for families. Of the options, only Ice Age is one too. So the answer is (A).
Q: Find a movie similar to Scarface, Casino, Donnie Brasco, Carlito's Way:
Options:
(A) Bambi
(B) Singin' in the Rain
(C) The Muppet Movie
(D) Goodfellas
A: All four are films about gangsters. Of the options, only Goodfellas is one too. So the answer is (D).""",
    "multistep_arithmetic_two": """\
Q: ((2 + -3 * 4 + 1) - (5 - -1 + 2 * 3)) =
A: The first bracket is 2 + -12 + 1 = -9. The second one is 5 + 1 + 6 = 12. -9 - 12 = -21. So the answer is \
-21.
Q: ((6 * -2 + 5 - 1) * (3 - 7 - -1 + 2)) =
A: The first bracket is -12 + 5 - 1 = -8. The second one is 3 - 7 + 1 + 2 = -1. -8 * -1 = 8. So the answer \
is 8.
Q: ((-4 - 3 + 9 * 2) + (2 * 5 * -1 - 6)) =
A: The first bracket is -4 - 3 + 18 = 11. The second one is -10 - 6 = -16. 11 + -16 = -5. So the answer is \
-5.""",
    "navigate": f"""\
Q: {_RETURN} Take 3 steps. Turn left. Turn left. Take 1 step. Take 2 steps.
{_YES_NO}
A: We start at (0, 0) and face north. 3 steps lead to (0, 3). After two turns to the left we face south. 1 \
step leads to (0, 2), and 2 steps to (0, 0). So the answer is Yes.
Q: {_RETURN} Always face forward. Take 4 steps right. Take 2 steps forward. Take 4 steps left. Take 3 steps \
backward.
{_YES_NO}
A: From (0, 0) we come to (4, 0), then (4, 2), then (0, 2), and last to (0, -1). So the answer is No.
Q: {_RETURN} Turn right. Take 5 steps. Turn around. Take 2 steps. Take 3 steps.
{_YES_NO}
A: We start at (0, 0) and face east after the turn. 5 steps lead to (5, 0). After turning around we face \
west. 2 steps lead to (3, 0), and 3 steps to (0, 0). So the answer is Yes.""",
    "object_counting": """\
Q: I have two spoons, a drum, a kettle, and three flutes. How many musical instruments do I have?
A: Of these, the drum (1) and the flutes (3) are musical instruments. 1 + 3 = 4. So the answer is 4.
Q: I have an onion, a goat, two leeks, and a turnip. How many vegetables do I have?
A: Of these, the onion (1), the leeks (2) and the turnip (1) are vegetables. 1 + 2 + 1 = 4. So the answer is \
4.
Q: I have five plums, a lamp, two pears, and a lemon. How many fruits do I have?
A: Of these, the plums (5), the pears (2) and the lemon (1) are fruits. 5 + 2 + 1 = 8. So the answer is 8.""",
    "penguins_in_a_table": f"""\
Q: {_PENGUINS} Which penguin is the second-oldest?
Options:
(A) Nils
(B) Pia
(C) Otto
(D) Runa
A: The ages are Nils 4, Pia 9, Otto 6, Runa 2. In order: Pia, Otto, Nils, Runa. The second is Otto. So the \
answer is (C).
Q: {_PENGUINS} How many penguins are taller than 50 cm?
Options:
(A) 0
(B) 1
(C) 2
(D) 3
(E) 4
A: The heights are Nils 60, Pia 75, Otto 55, Runa 45. Above 50 are 60, 75 and 55: three. So the answer is (D).
Q: {_PENGUINS} What is the total weight of the penguins?
Options:
(A) 44
(B) 45
(C) 46
(D) 48
(E) 50
A: The weights are 12, 14, 10 and 8. 12 + 14 + 10 + 8 = 44. So the answer is (A).""",
    "reasoning_about_colored_objects": """\
Q: On the desk, you see a teal pen, a brown mug, and a yellow ruler. What color is the mug?
Options:
(A) teal
(B) brown
(C) yellow
A: The mug is listed as brown. So the answer is (B).
Q: On the table, there are two red cups, one black cup, and three red plates. If I remove all the plates \
from the table, how many red objects remain on it?
Options:
(A) zero
(B) one
(C) two
(D) three
(E) four
A: Without the plates there are two red cups and one black cup. Two of these are red. So the answer is (C).
Q: On the shelf, you see a set of items arranged in a row: a green vase, a pink clock, a grey candle, and a \
white bell. What is the color of the item directly to the left of the candle?
Options:
(A) pink
(B) green
(C) grey
(D) white
A: In order: green vase, pink clock, grey candle, white bell. Left of the candle is the clock, which is \
pink. So the answer is (A).""",
    "ruin_names": f"""\
Q: {_RUINED} 'iron maiden'?
Options:
(A) irony maiden
(B) iron maidn
(C) iiron maiden
(D) iron maidem
A: Three are only misspelt. "irony maiden" makes another word of "iron", with a funny meaning. So the answer \
is (A).
Q: {_RUINED} 'mamma mia'?
Options:
(A) mama mia
(B) mamma mea
(C) mammoth mia
(D) mmamma mia
A: Three are only misspelt. "mammoth mia" makes an animal of "mamma". So the answer is (C).
Q: {_RUINED} 'duran duran'?
Options:
(A) duran durann
(B) durian durian
(C) duram duran
(D) durn duran
A: Three are only misspelt. "durian durian" makes a fruit of the name, one that is known for its smell. So \
the answer is (B).""",
    "salient_translation_error_detection": f"""\
Q: {_ERRORS} Die Brücke wurde 1904 gebaut und ist 80 Meter lang.
Translation: The bridge was built in 1904 and is 90 metres long.
{_CONTAINS}
A: The source says 80 metres, the translation 90. A number is changed. So the answer is (B).
Q: {_ERRORS} Lübeck ist eine Hafenstadt an der Ostsee.
Translation: Rostock is a port city on the Baltic Sea.
{_CONTAINS}
A: The source is about Lübeck, the translation about Rostock. A name is changed. So the answer is (D).
Q: {_ERRORS} Der alte Turm ist nicht öffentlich zugänglich.
Translation: The old tower is open to the public.
{_CONTAINS}
A: The source says "nicht", which means not, and the translation leaves it out, so that it says the \
opposite. So the answer is (C).""",
    "snarks": """\
Q: Which statement is sarcastic?
Options:
(A) Great, the train is late again, just what I needed before the exam
(B) Great, the train is early again, just what I needed before the exam
A: Before an exam one needs a train in time. To call a late one great is not meant so. So the answer is (A).
Q: Which statement is sarcastic?
Options:
(A) He shouted at the waiter all evening, such a terrible guest
(B) He shouted at the waiter all evening, such a lovely guest
A: Shouting at a waiter is bad behaviour. Whoever calls that lovely does not mean it. So the answer is (B).
Q: Which statement is sarcastic?
Options:
(A) A phone that is empty at noon is exactly what a traveller wants
(B) A phone that lasts for days is exactly what a traveller wants
A: A traveller wants a phone that lasts. That one wants an empty one is not meant so. So the answer is \
(A).""",
    "temporal_sequences": """\
Q: Today, Hugo went to the harbor. Between what times could they have gone?
We know that:
Hugo woke up at 6am.
Mona saw Hugo baking bread from 6am to 9am.
Paul saw Hugo fixing a bicycle from 11am to 4pm.
The harbor was closed after 4pm.
Between what times could Hugo have gone to the harbor?
Options:
(A) 6am to 9am
(B) 4pm to 6pm
(C) 9am to 11am
(D) 11am to 4pm
A: From 6am to 9am and from 11am to 4pm Hugo was elsewhere, and after 4pm the harbor was closed. Only 9am to \
11am is free. So the answer is (C).
Q: Today, Selma went to the archive. Between what times could they have gone?
We know that:
Selma woke up at 7am.
Otis saw Selma swimming from 8am to 1pm.
Rita saw Selma selling apples from 1pm to 5pm.
The archive was closed after 5pm.
Between what times could Selma have gone to the archive?
Options:
(A) 7am to 8am
(B) 8am to 1pm
(C) 1pm to 5pm
(D) 5pm to 8pm
A: From 8am to 5pm Selma was elsewhere, and after that the archive was closed. Only 7am to 8am is free. So \
the answer is (A).
Q: Today, Ivan went to the lighthouse. Between what times could they have gone?
We know that:
Ivan woke up at 5am.
Nora saw Ivan reading from 5am to 10am.
Carl saw Ivan painting a fence from 10am to 12pm.
Edda saw Ivan singing in a choir from 3pm to 6pm.
The lighthouse was closed after 6pm.
Between what times could Ivan have gone to the lighthouse?
Options:
(A) 5am to 10am
(B) 10am to 12pm
(C) 3pm to 6pm
(D) 12pm to 3pm
A: Ivan was elsewhere from 5am to 12pm and from 3pm to 6pm, when the lighthouse closed. Only 12pm to 3pm is \
free. So the answer is (D).""",
    "tracking_shuffled_objects_five_objects": f"""\
Q: {_HATS_OF_FIVE}
First, Ada and Eli swap hats. Then, Ben and Cleo swap hats. Then, Cleo and Dan swap hats. Finally, Ada and \
Cleo swap hats. At the end, the hat that Cleo has is
{_FIVE_COLOURS}
A: Ada and Eli: Ada white, Eli red. Ben and Cleo: Ben green, Cleo blue. Cleo and Dan: Cleo black, Dan blue. \
Ada and Cleo: Ada black, Cleo white. So the answer is (E).
Q: {_HATS_OF_FIVE}
First, Dan and Eli swap hats. Then, Ada and Dan swap hats. Finally, Ben and Dan swap hats. At the end, the \
hat that Dan has is
{_FIVE_COLOURS}
A: Dan and Eli: Dan white, Eli black. Ada and Dan: Ada white, Dan red. Ben and Dan: Ben red, Dan blue. So \
the answer is (B).
Q: {_HATS_OF_FIVE}
First, Ben and Eli swap hats. Then, Cleo and Eli swap hats. Then, Ada and Ben swap hats. Finally, Dan and \
Eli swap hats. At the end, the hat that Eli has is
{_FIVE_COLOURS}
A: Ben and Eli: Ben white, Eli blue. Cleo and Eli: Cleo blue, Eli green. Ada and Ben: Ada white, Ben red. \
Dan and Eli: Dan green, Eli black. So the answer is (D).""",
    "tracking_shuffled_objects_seven_objects": f"""\
Q: {_HATS_OF_SEVEN}
First, Ada and Gus swap hats. Then, Fay and Gus swap hats. Finally, Ben and Fay swap hats. At the end, the \
hat that Fay has is
{_SEVEN_COLOURS}
A: Ada and Gus: Ada brown, Gus red. Fay and Gus: Fay red, Gus yellow. Ben and Fay: Ben red, Fay blue. So the \
answer is (B).
Q: {_HATS_OF_SEVEN}
First, Cleo and Dan swap hats. Then, Dan and Eli swap hats. Then, Eli and Fay swap hats. Finally, Fay and \
Gus swap hats. At the end, the hat that Gus has is
{_SEVEN_COLOURS}
A: Cleo and Dan: Cleo black, Dan green. Dan and Eli: Dan white, Eli green. Eli and Fay: Eli yellow, Fay \
green. Fay and Gus: Fay brown, Gus green. So the answer is (C).
Q: {_HATS_OF_SEVEN}
First, Ben and Gus swap hats. Then, Ada and Ben swap hats. Then, Dan and Gus swap hats. Finally, Eli and Ada \
swap hats. At the end, the hat that Ada has is
{_SEVEN_COLOURS}
A: Ben and Gus: Ben brown, Gus blue. Ada and Ben: Ada brown, Ben red. Dan and Gus: Dan blue, Gus black. Eli \
and Ada: Ada white, Eli brown. So the answer is (E).""",
    "web_of_lies": """\
Q: Question: Pim lies. Rosa says Pim tells the truth. Sven says Rosa lies. Does Sven tell the truth?
A: Pim lies, and Rosa says the opposite, so Rosa lies. Sven says that, so he tells the truth. So the answer \
is Yes.
Q: Question: Tuva tells the truth. Ulf says Tuva lies. Vera says Ulf tells the truth. Does Vera tell the \
truth?
A: Tuva tells the truth, and Ulf says the opposite, so Ulf lies. Vera says that he does not, so she lies. So \
the answer is No.
Q: Question: Wim lies. Xena says Wim lies. Yann says Xena tells the truth. Zoe says Yann lies. Does Zoe tell \
the truth?
A: Wim lies, and Xena says so: she tells the truth. Yann says that, so he tells the truth too. Zoe says that \
he lies, so she lies. So the answer is No.""",
    "word_sorting": """\
Q: Sort the following words alphabetically: List: violin anchor meadow
A: First letters: violin v, anchor a, meadow m. In order: anchor, meadow, violin. So the answer is anchor \
meadow violin.
Q: Sort the following words alphabetically: List: stone stable acorn stork
A: "acorn" begins with a, the others with st. Third letters: stable a, stone o, stork o. Fourth: stone n, \
stork r. In order: acorn, stable, stone, stork. So the answer is acorn stable stone stork.
Q: Sort the following words alphabetically: List: ladder ladle label
A: All begin with la. Third letters: ladder d, ladle d, label b. Fourth: ladder d, ladle l. In order: label, \
ladder, ladle. So the answer is label ladder ladle.""",
}
