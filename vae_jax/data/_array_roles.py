"""Which arrays of a file are the images and the labels, of which split: by their names, or as a person says."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from vae_jax.data._array_files import Arrays, StoredArray
from vae_jax.errors import UserError, unknown_name
from vae_jax.phrases import join_names

Role = tuple[str, str]
"""(split, "images" or "labels")."""
WITHOUT = "none"
"""The name of labels that are not to be read."""

SPLITS = {
    "train": ("train", "training", ""),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
KINDS = {
    "images": ("images", "image", "imgs", "img", "x", "data"),
    "labels": ("labels", "label", "y", "targets", "target", "classes"),
}
ROLES: dict[str, Role] = {
    name: (split, kind)
    for split, split_words in SPLITS.items()
    for split_word in split_words
    for kind, kind_words in KINDS.items()
    for kind_word in kind_words
    for name in (split_word + kind_word, kind_word + split_word)
}
"""What an array is by the letters of its name: "x_train", "trainImages" and "train/images" are the same."""
ROLES |= {word: (split, "images") for split, words in SPLITS.items() for word in words if word}
FIELDS: dict[str, Role] = {
    "images": ("train", "images"),
    "labels": ("train", "labels"),
    "test_images": ("test", "images"),
    "test_labels": ("test", "labels"),
}


def find_roles(file: str, arrays: Arrays, named: Mapping[str, str]) -> dict[Role, str]:
    """The name of the array of each role that there is; images to train on always are.

    Args:
        file: where the arrays are, field first, as an error says it.
        arrays: by their names.
        named: names that a person gave, by FIELDS; empty for those to be found, and labels "none" for a set without.

    Raises:
        UserError: for a name that is unknown, and where several arrays could be meant, or none.
    """
    unlabelled = named.get("labels") == WITHOUT and WITHOUT not in arrays
    given = {FIELDS[field]: name for field, name in named.items() if name and not (unlabelled and "label" in field)}
    for field, role in FIELDS.items():
        if role in given and given[role] not in arrays:
            raise unknown_name(field, given[role], arrays)
    candidates = _candidates(arrays)
    if unlabelled:
        candidates = {role: names for role, names in candidates.items() if role[1] == "images"}
    if _is_alone(given):
        candidates = {role: names for role, names in candidates.items() if role[0] == "train"}
    roles = dict(given)
    for role, names in candidates.items():
        if role not in given and len(names) > 1:
            raise _ambiguous(role[1], file, _descriptions(arrays, names))
        roles.setdefault(role, names[0])
    if ("train", "images") not in roles:
        roles["train", "images"] = _only_images(file, arrays, set(roles.values()))
    _check_pairs(file, roles)
    return roles


def _role(name: str) -> Role | None:
    return ROLES.get("".join(letter for letter in name.lower() if letter.isalpha()))


def _is_alone(given: Mapping[Role, str]) -> bool:
    """Whether the images are named, and are not by their name the training images of a set with other splits."""
    name = given.get(("train", "images"), "")
    return bool(name) and not ("train" in name.lower() and _role(name) == ("train", "images"))


def _candidates(arrays: Arrays) -> dict[Role, list[str]]:
    candidates = defaultdict(list)
    for name, array in arrays.items():
        role = _role(name)
        if role and (_may_be_images(array) if role[1] == "images" else len(array.shape) in (1, 2)):
            candidates[role].append(name)
    return dict(candidates)


def _may_be_images(array: StoredArray) -> bool:
    return len(array.shape) in (3, 4) and array.is_numeric


def _only_images(file: str, arrays: Arrays, others: set[str]) -> str:
    names = [name for name, array in arrays.items() if _may_be_images(array) and name not in others]
    if len(names) == 1:
        return names[0]
    if len(names) > 1:
        raise _ambiguous("images", file, _descriptions(arrays, names))
    raise UserError(
        f"{file} has no array of images, numbers of (n, height, width) or (n, height, width, channels); "
        f"it has {join_names(_descriptions(arrays, arrays)) or 'nothing'}"
    )


def _descriptions(arrays: Arrays, names: Iterable[str]) -> list[str]:
    return [f"{name} ({arrays[name].dtype} {arrays[name].shape})" for name in names]


def _ambiguous(kind: str, file: str, names: list[str]) -> UserError:
    """The error for several arrays that could be the images, or the labels."""
    return UserError(
        f"{kind}: '' does not say which array of {file.removeprefix('path: ')}; give one of {join_names(names)}"
    )


def _check_pairs(file: str, roles: Mapping[Role, str]) -> None:
    """Raises UserError where one split has labels and another none, or there are labels of no images."""
    splits = {split for split, kind in roles if kind == "images"}
    labelled = {split for split, kind in roles if kind == "labels"}
    for split in sorted(labelled - splits):
        raise UserError(f"{file} has labels {roles[split, 'labels']!r} of a {split} split, and no images of it")
    for split in sorted(splits - labelled if labelled else ()):
        raise UserError(
            f"{file} has labels {roles[min(labelled), 'labels']!r}, and none for the images "
            f"{roles[split, 'images']!r}; name both (labels, test_labels), or give labels none"
        )
