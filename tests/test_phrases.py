"""Words, numbers and texts in messages."""

import pytest

from vae_jax.files import user_path
from vae_jax.phrases import printable, shorten, whole_number
from vae_jax.screen import wrap_line

PERSIAN, FAMILY = "\u0645\u06cc\u200c\u062e\u0648\u0645", "\U0001f469\u200d\U0001f467"
"""Text whose letters are kept apart, and an emoji whose parts are joined."""


@pytest.mark.parametrize("text", ["é λ 世 ❤\ufe0f", PERSIAN, FAMILY])
def test_what_a_terminal_only_draws_is_printable(text):
    assert printable(text) == text
    assert str(user_path(f"runs/{text}")) == f"runs/{text}"


@pytest.mark.parametrize("character", ["\n", "\x1b", "\u202e", "\u2066", "\u200e", "\u2028", "\ud800"])
def test_what_a_terminal_acts_on_is_its_escape(character):
    assert printable(f"a{character}b") == f"a{repr(character)[1:-1]}b"


def test_a_joiner_takes_no_column():
    assert wrap_line(f"{PERSIAN} ab", len(PERSIAN) + 2) == [f"{PERSIAN} ab"]
    assert len(wrap_line(f"{PERSIAN} ab", len(PERSIAN) + 1)) == 2


def test_a_long_text_is_cut_in_the_middle():
    assert shorten("a" * 30, 30) == "a" * 30
    cut = shorten("a" * 500 + "b" * 500, 50)
    assert len(cut) == 50
    assert cut.startswith("aaa")
    assert " ... " in cut
    assert cut.endswith("bbb")


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7), ("-3", -3), ("20_000", 20_000), ("1e4", 10_000), ("2.0", 2), (str(2**60 + 1), 2**60 + 1)],
)
def test_a_whole_number_is_read_however_it_is_typed(text, number):
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["", "x", "1.5", "1e400", "nan", "9" * 5000, "true"])
def test_what_is_no_whole_number_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        whole_number(text)
