"""One tree of errors: each is the product's own and the builtin a caller would catch."""

from __future__ import annotations

import inspect
import pickle

import pytest

import cocoindex as coco
from cocoindex import errors

CLASSES = sorted(
    (
        thing
        for _, thing in inspect.getmembers(errors, inspect.isclass)
        if thing.__module__ == "cocoindex.errors"
    ),
    key=lambda cls: cls.__name__,
)
WITHOUT_BUILTIN = {errors.CocoIndexError, errors.TransientError}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_belongs_to_the_tree(cls: type[Exception]) -> None:
    assert issubclass(cls, coco.CocoIndexError)


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls not in WITHOUT_BUILTIN])
def test_every_error_is_also_a_builtin_a_caller_would_catch(cls: type[Exception]) -> None:
    builtin = (ValueError, TypeError, RuntimeError, KeyError, TimeoutError, OSError)
    assert issubclass(cls, builtin)


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (errors.DeadlineExceededError, TimeoutError),
        (errors.DeserializationError, ValueError),
        (errors.DeletionsWithheldError, RuntimeError),
        (errors.SerializationError, NotImplementedError),
        (errors.SerializationError, TypeError),
    ],
)
def test_named_errors_are_what_the_interface_says(
    cls: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(cls, builtin)


SIMPLE = [cls for cls in CLASSES if cls is not errors.DeletionsWithheldError]


@pytest.mark.parametrize("cls", SIMPLE)
def test_str_is_the_plain_message(cls: type[Exception]) -> None:
    assert str(cls("it's gone")) == "it's gone"


def test_str_is_the_plain_message_also_below_key_error() -> None:
    assert issubclass(errors.MissingKeyError, KeyError)
    assert str(errors.MissingKeyError("no value for key 'db'")) == "no value for key 'db'"


@pytest.mark.parametrize("cls", SIMPLE)
def test_errors_survive_pickling(cls: type[Exception]) -> None:
    copy = pickle.loads(pickle.dumps(cls("text")))
    assert (type(copy), str(copy)) == (cls, "text")


def test_withheld_deletions_say_where_how_many_and_what_to_do() -> None:
    text = str(errors.DeletionsWithheldError([('/"a"', 5, 8)]))
    assert '5 of 8 children below /"a"' in text
    assert "allow_deletes=True" in text


def test_public_names_are_the_classes_of_the_tree() -> None:
    assert coco.CocoIndexError is errors.CocoIndexError
    assert coco.TransientError is errors.TransientError
    assert coco.DeadlineExceededError is errors.DeadlineExceededError
    assert coco.DeletionsWithheldError is errors.DeletionsWithheldError


def test_the_loader_s_error_belongs_to_the_tree() -> None:
    from cocoindex.user_app_loader import Error, load_user_app

    assert issubclass(Error, coco.CocoIndexError)
    with pytest.raises(Error, match="Application file path not found"):
        load_user_app("no/such/file.py")
