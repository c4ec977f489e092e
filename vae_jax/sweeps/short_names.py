"""Names in a column that is too narrow for them: shorter, and still a different one for each."""

from collections import Counter
from collections.abc import Sequence

from vae_jax.phrases import printable

GAP = "..."
LARGE = 2**31
"""A width that no name has."""


def short_names(names: Sequence[str], width: int) -> dict[str, str]:
    """The names, each in at most `width` characters of one line, no two alike.

    Where one is too long, the words that all of them share go first; then of those that still are the names of fields
    are cut ("learn.=0.001"), for it is their values that tell names apart; then the middle. What is alike after all
    that is numbered.
    """
    names = list(dict.fromkeys(names))
    texts = numbered([printable(name) for name in names])
    for shorten in (_without_shared_words, _with_short_fields):
        if max(map(len, texts), default=0) <= width:
            break
        texts = shorten(texts, width)
    return dict(zip(names, numbered([cut_middle(text, width) for text in texts], width), strict=True))


def cut_middle(text: str, width: int) -> str:
    """`text` in at most `width` characters, without a part of its middle."""
    if len(text) <= width:
        return text
    if width <= len(GAP):
        return text[:width]
    end = (width - len(GAP)) * 2 // 3
    return f"{text[: width - len(GAP) - end]}{GAP}{text[len(text) - end :]}"


def _without_shared_words(texts: Sequence[str], width: int) -> list[str]:
    """The names without the words that all of them have; as they are where one would be empty, or two alike."""
    shared = set.intersection(*(set(text.split(" ")) for text in texts))
    shorter = [" ".join(word for word in text.split(" ") if word not in shared) for text in texts]
    return shorter if all(shorter) and len(set(shorter)) == len(shorter) else list(texts)


def _with_short_fields(texts: Sequence[str], width: int) -> list[str]:
    """Those that are too long with the names of fields cut to as many letters as fit, as few as tell fields apart."""
    longest = max(len(word.partition("=")[0]) for text in texts for word in text.split(" "))
    shortest = list(texts)
    for letters in range(longest - 1, 0, -1):
        fields = {word.partition("=")[0] for text in texts for word in text.split(" ") if "=" in word}
        if len({_cut_field(field, letters) for field in fields}) < len(fields):
            break
        cut = [" ".join(_cut_word(word, letters) for word in text.split(" ")) for text in texts]
        shortest = [text if len(text) <= width else shorter for text, shorter in zip(texts, cut, strict=True)]
        if max(map(len, shortest)) <= width:
            break
    return shortest


def _cut_word(word: str, letters: int) -> str:
    field, equals, value = word.partition("=")
    return f"{_cut_field(field, letters)}{equals}{value}" if equals else word


def _cut_field(field: str, letters: int) -> str:
    return field if len(field) <= letters + 1 else f"{field[:letters]}."


def numbered(texts: Sequence[str], width: int = LARGE) -> list[str]:
    """The names in at most `width` characters, those that are alike with a number behind them."""
    counts = Counter(texts)
    taken, names = set(counts), []
    for text in texts:
        name, number = text, 0
        while counts[text] > 1 and name in taken:
            number += 1
            suffix = f" #{number}"
            name = f"{cut_middle(text, width - len(suffix))}{suffix}"
        taken.add(name)
        names.append(name)
    return names
