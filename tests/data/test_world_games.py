"""Games say again what they said before, and give way to the documents."""

import re
from itertools import islice

import pytest

from camelid.data.world import curriculum, documents
from camelid.data.world.games import GAMES, _memory, _relay, _song, games
from camelid.data.world.grammar import Dice


def test_the_same_games_for_the_same_seed_and_about_the_size_asked_for():
    first = list(games(20_000, seed=3))
    assert first == list(games(20_000, seed=3)) != list(games(20_000, seed=4))
    assert 20_000 <= sum(len(text.encode()) for text in first) < 20_600


def test_a_song_repeats_its_line():
    for seed in range(50):
        lines = re.findall(r"[^.]+\.", _song(Dice("song", seed)))
        assert len(lines) >= 3
        assert len({line.strip() for line in lines}) == 1


def test_what_is_asked_for_was_said():
    for seed in range(50):
        text = _memory(Dice("memory", seed))
        told = dict(re.findall(r"(\w+) (?:has|finds|wants|sees) ([^.]+)\.", text))
        asked = re.findall(r"(\w+)\? ([^.]+)\.", text)
        assert dict(asked) == told
        assert len(asked) == len(told)


def test_a_relay_is_told_back_from_its_end():
    for seed in range(50):
        text = _relay(Dice("relay", seed))
        passes = re.findall(r"(\w+) gives [^.]+ to (\w+)\.", text)
        back = [(one, other) for other, one in re.findall(r"(\w+) got it from (\w+)\.", text)]
        assert back[::-1] == passes[: len(back)]


def test_games_give_way_to_the_documents():
    size, written, played = 30_000, 0, []
    told = documents("train", 7)
    due = next(told)
    for text in curriculum(size, seed=7):
        is_game = text != due
        if not is_game:
            due = next(told)
        played.append((written / (2 * size), is_game))
        written += len(text.encode())
        if written > 4 * size:
            break
    share = [sum(game for at, game in played if low <= at < low + 0.5) for low in (0.0, 0.5, 1.0, 1.5)]
    assert share[0] > 5 * share[1] > 0
    assert share[3] == 0


def test_no_games_are_the_documents_alone():
    assert list(islice(curriculum(0, seed=1), 5)) == list(islice(documents("train", 1), 5))


@pytest.mark.parametrize("game", GAMES, ids=lambda game: game.__name__)
def test_no_game_puts_a_question_of_a_skill(game):
    for seed in range(20):
        assert "Q:" not in game(Dice("game", seed))
