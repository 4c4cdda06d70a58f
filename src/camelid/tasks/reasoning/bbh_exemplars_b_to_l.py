"""Solved questions for BIG-Bench Hard, boolean expressions to logical deduction, written for this project:
none is among the tasks' own.

Each text is a prompt as the paper's file of prompts has them, and is read by the same parser. Tasks that are
also asked by themselves (dates, sports, three tracked objects) show the exemplars that they have there.
"""

_CAUSES = "How would a typical person answer each of the following questions about causation?"
_PRONOUN = (
    "In the following sentences, explain the antecedent of the pronoun (which thing the pronoun refers "
    "to), or state that it is ambiguous.\nSentence:"
)
_CLOSE = "Complete the rest of the sequence, making sure that the parentheses are closed properly. Input:"
_VALID = (
    "Is the argument, given the explicitly stated premises, deductively valid or invalid?\nOptions:\n- "
    "valid\n- invalid"
)
_SHAPES = (
    "Options:\n(A) circle\n(B) heptagon\n(C) hexagon\n(D) kite\n(E) line\n(F) octagon\n(G) "
    "pentagon\n(H) rectangle\n(I) sector\n(J) triangle"
)
_ORDER = (
    "The following paragraphs each describe a set of {} objects arranged in a fixed order. The "
    "statements are logically consistent within each paragraph."
)
_YES_NO = "Options:\n- Yes\n- No"
_THREE, _FIVE, _SEVEN = map(_ORDER.format, ("three", "five", "seven"))

PROMPTS = {
    "boolean_expressions": """\
Q: True and not ( not False or False ) and True is
A: not False is True, so the bracket is True or False, which is True. not True is False, and True and False \
and True is False. So the answer is False.
Q: ( False or not not True ) and not False is
A: not not True is True, so the bracket is True. not False is True, and True and True is True. So the answer \
is True.
Q: not ( True and not True ) and ( False or False ) is
A: The first bracket is True and False, which is False, and not False is True. The second bracket is False. \
True and False is False. So the answer is False.""",
    "causal_judgement": f"""\
Q: {_CAUSES}
Ada smells smoke in the office and presses the fire alarm. Nobody else presses it. The alarm rings, and \
everyone leaves in time. Did Ada cause the alarm to ring?
{_YES_NO}
A: The alarm rang because a button was pressed, and Ada alone pressed one, on purpose. So the answer is Yes.
Q: {_CAUSES}
Tom promised to water the roses of his neighbour, and forgot it. The postman passed the roses every day and \
did not water them either. The roses dried up. Did the postman cause the roses to dry up?
{_YES_NO}
A: Of those who did not water the roses, only Tom had to do so. People name as a cause what breaks a rule or \
a promise, and the postman broke none. So the answer is No.
Q: {_CAUSES}
A footbridge holds at most four people, and a sign says that only residents may use it. Four residents stand \
on it. Max, a visitor, has read the sign and steps on it too. The bridge cracks. Did Max cause the bridge to \
crack?
{_YES_NO}
A: The bridge cracked because of the fifth person. Max was the fifth, and he knew that he was not allowed to \
be there. So the answer is Yes.""",
    "disambiguation_qa": f"""\
Q: {_PRONOUN} The plumber rang the tenant because he wanted to be let in.
Options:
(A) The plumber wanted to be let in
(B) The tenant wanted to be let in
(C) Ambiguous
A: Whoever rings wants to be let in, and the plumber rang. The tenant is in already. So the answer is (A).
Q: {_PRONOUN} Mira met Lena after she had moved to Oslo.
Options:
(A) Mira had moved to Oslo
(B) Lena had moved to Oslo
(C) Ambiguous
A: Mira could have moved and then met Lena there, and so could Lena. Nothing decides between them. So the \
answer is (C).
Q: {_PRONOUN} The judge thanked the witness because she had answered every question.
Options:
(A) The judge had answered every question
(B) The witness had answered every question
(C) Ambiguous
A: In a court it is the witness who answers questions, and that is what one is thanked for. So the answer is \
(B).""",
    "dyck_languages": f"""\
Q: {_CLOSE} < [ ( ) {{ }}
A: < and [ are opened. ( is closed by ), and {{ by }}. Open are < and [, which close in reverse order: ] >. \
So the answer is ] >.
Q: {_CLOSE} {{ ( < > )
A: {{, ( and < are opened. > closes <, and ) closes (. Open is {{. So the answer is }}.
Q: {_CLOSE} [ {{ }} ( [ <
A: [ is opened. {{ is closed by }}. Then (, [ and < are opened. Open are [ ( [ <, which close in reverse \
order: > ] ) ]. So the answer is > ] ) ].""",
    "formal_fallacies": f"""\
Q: "To begin with, every baker is an early riser. Next, no early riser is a night owl. Hence, no baker is a \
night owl."
{_VALID}
A: Bakers are among the early risers, and of these none is a night owl. So none of the bakers is. So the \
answer is valid.
Q: "First, every cellist is a musician. Moreover, Ida is a musician. It follows that Ida is a cellist."
{_VALID}
A: Not every musician has to be a cellist: Ida could play the drums, and both premises would be true. So the \
answer is invalid.
Q: "Whoever owns a boat is a swimmer. Tim is not a swimmer. Therefore, Tim does not own a boat."
{_VALID}
A: If Tim owned a boat, he would be a swimmer by the first premise, but he is not. So he owns none. So the \
answer is valid.""",
    "geometric_shapes": f"""\
Q: This SVG path element <path d="M 10.00,10.00 L 20.00,10.00 L 15.00,18.00 L 10.00,10.00"/> draws a
{_SHAPES}
A: There are 3 lines, and the last one ends where the first begins. A closed shape of 3 sides is a triangle. \
So the answer is (J).
Q: This SVG path element <path d="M 4.00,3.00 L 34.00,43.00"/> draws a
{_SHAPES}
A: There is one L, from the start to another point, and nothing closes. That is a line. So the answer is (E).
Q: This SVG path element <path d="M 20.00,0.00 L 40.00,15.00 L 32.00,38.00 L 8.00,38.00 L 0.00,15.00 L \
20.00,0.00"/> draws a
{_SHAPES}
A: There are 5 lines, and the last one ends where the first begins. A closed shape of 5 sides is a pentagon. \
So the answer is (G).""",
    "hyperbaton": """\
Q: Which sentence has the correct adjective order:
Options:
(A) wooden small lovely box
(B) lovely small wooden box
A: The order is opinion, size, age, shape, color, origin, material, purpose. "lovely" is an opinion, "small" \
a size and "wooden" a material, so (B) is right. So the answer is (B).
Q: Which sentence has the correct adjective order:
Options:
(A) huge round green Spanish bowl
(B) green huge Spanish round bowl
A: The order is opinion, size, age, shape, color, origin, material, purpose. "huge" is a size, "round" a \
shape, "green" a color and "Spanish" an origin, so (A) is right. So the answer is (A).
Q: Which sentence has the correct adjective order:
Options:
(A) silver terrible drinking new cup
(B) terrible new silver drinking cup
A: The order is opinion, size, age, shape, color, origin, material, purpose. "terrible" is an opinion, "new" \
an age, "silver" a color or material and "drinking" a purpose, so (B) is right. So the answer is (B).""",
    "logical_deduction_three_objects": f"""\
Q: {_THREE} On a shelf, there are three cups: a tin cup, a glass cup, and a clay cup. The clay cup is to the \
left of the tin cup. The glass cup is to the left of the clay cup.
Options:
(A) The tin cup is the leftmost
(B) The glass cup is the leftmost
(C) The clay cup is the leftmost
A: The glass cup is left of the clay cup, which is left of the tin cup: glass, clay, tin. So the answer is \
(B).
Q: {_THREE} In a race, there were three runners: Max, Lea, and Kim. Kim finished above Max. Lea finished \
above Kim.
Options:
(A) Max finished last
(B) Lea finished last
(C) Kim finished last
A: Lea is above Kim, who is above Max: Lea, Kim, Max. So the answer is (A).
Q: {_THREE} A kiosk sells three fruits: plums, figs, and limes. The figs are less expensive than the plums. \
The limes are more expensive than the plums.
Options:
(A) The plums are the most expensive
(B) The figs are the most expensive
(C) The limes are the most expensive
A: From the cheapest on: figs, plums, limes. So the answer is (C).""",
    "logical_deduction_five_objects": f"""\
Q: {_FIVE} On a shelf, there are five books: a red book, a blue book, a green book, a white book, and a \
black book. The red book is the leftmost. The black book is the second from the right. The green book is to \
the right of the black book. The blue book is to the left of the white book.
Options:
(A) The red book is the third from the left
(B) The blue book is the third from the left
(C) The green book is the third from the left
(D) The white book is the third from the left
(E) The black book is the third from the left
A: Red is first and black fourth. Green is right of black, so fifth. Blue is left of white, so they are \
second and third: red, blue, white, black, green. So the answer is (D).
Q: {_FIVE} In a tournament, there were five golfers: Ann, Ben, Cora, Dov, and Ela. Ben finished first. Ela \
finished last. Cora finished second. Dov finished below Ann.
Options:
(A) Ann finished third
(B) Ben finished third
(C) Cora finished third
(D) Dov finished third
(E) Ela finished third
A: Ben is first, Cora second and Ela fifth. Dov is below Ann, so she is third and he fourth. So the answer \
is (A).
Q: {_FIVE} A kiosk sells five fruits: pears, kiwis, melons, grapes, and dates. The dates are the most \
expensive. The pears are the cheapest. The kiwis are the second-cheapest. The grapes are more expensive than \
the melons.
Options:
(A) The pears are the second-most expensive
(B) The kiwis are the second-most expensive
(C) The melons are the second-most expensive
(D) The grapes are the second-most expensive
(E) The dates are the second-most expensive
A: From the cheapest on: pears, kiwis, two more, dates. Grapes cost more than melons, so they are fourth of \
five. So the answer is (D).""",
    "logical_deduction_seven_objects": f"""\
Q: {_SEVEN} On a bench, there are seven tools: a saw, an axe, a drill, a file, a plane, a clamp, and a \
hammer. The saw is the leftmost. The hammer is the rightmost. The drill is the fourth from the left. The axe \
is the second from the left. The clamp is to the right of the drill. The plane is to the right of the clamp.
Options:
(A) The saw is the third from the left
(B) The axe is the third from the left
(C) The drill is the third from the left
(D) The file is the third from the left
(E) The plane is the third from the left
(F) The clamp is the third from the left
(G) The hammer is the third from the left
A: Saw, axe, drill and hammer are first, second, fourth and seventh. Clamp and plane are right of the drill, \
so fifth and sixth. The file is left for the third place. So the answer is (D).
Q: {_SEVEN} In a tournament, there were seven golfers: Ivy, Jon, Kai, Lou, Mia, Ned, and Ola. Kai finished \
first. Ola finished second. Ned finished last. Mia finished third-to-last. Ivy finished below Mia. Jon \
finished above Lou.
Options:
(A) Ivy finished third
(B) Jon finished third
(C) Kai finished third
(D) Lou finished third
(E) Mia finished third
(F) Ned finished third
(G) Ola finished third
A: Kai is first, Ola second, Mia fifth and Ned seventh. Ivy is below Mia, so sixth. Jon is above Lou, so he \
is third. So the answer is (B).
Q: {_SEVEN} At a show, there are seven vehicles: a bus, a van, a truck, a sedan, a tractor, a coupe, and a \
hearse. The bus is the oldest. The coupe is the newest. The van is the second-newest. The truck is the \
second-oldest. The tractor is older than the sedan. The sedan is older than the hearse.
Options:
(A) The bus is the third-newest
(B) The van is the third-newest
(C) The truck is the third-newest
(D) The sedan is the third-newest
(E) The tractor is the third-newest
(F) The coupe is the third-newest
(G) The hearse is the third-newest
A: From the oldest on: bus, truck, tractor, sedan, hearse, van, coupe. The third from the end is the hearse. \
So the answer is (G).""",
}
