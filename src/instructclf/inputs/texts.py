"""``X`` of any kind → a list of texts, or an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructclf.exceptions import InvalidTextsError


def check_texts(X: Any, name: str = "X") -> list[str]:
    """Return texts as a list of strings. A frame may have one column. Errors call it by its name.

    Raises
    ------
    InvalidTextsError
        If ``X`` is not a sequence, is empty, has several columns, or holds anything but strings.
    """
    texts = _as_list(X, name)
    if not texts:
        msg = (
            f"Found array with 0 sample(s) (shape=(0,)) in {name} while a minimum of 1 is "
            "required. Give at least one text."
        )
        raise InvalidTextsError(msg)
    suffix = "" if name == "X" else f" of {name}"
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidTextsError(_describe_wrong_text(f"Text {position}{suffix}", text))
        check_encodable(f"Text {position}{suffix}", text)
    return [str(text) for text in texts]


def _as_list(X: Any, name: str) -> list[Any]:
    if isinstance(X, str | bytes):
        kind = type(X).__name__
        msg = f"{name} must be a sequence of texts. Got one {kind}: wrap it, as in [{name}]."
        raise InvalidTextsError(msg)
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        msg = (
            f"{name} must be a sequence of texts. Got a sparse matrix of shape {X.shape}: give the "
            "texts themselves, not their vectors."
        )
        raise InvalidTextsError(msg)
    if hasattr(X, "columns") or hasattr(X, "column_names"):
        return _only_column(X, name)
    if hasattr(X, "to_pylist"):  # iterating over pyarrow data gives its scalars, not strings
        return X.to_pylist()
    if isinstance(X, np.ndarray):
        return _flat(X, name)
    if isinstance(X, Mapping | Set) or not isinstance(X, Iterable) or not hasattr(X, "__len__"):
        msg = f"{name} must be a sequence of texts. Got {type(X).__name__}: give a list of str."
        raise InvalidTextsError(msg)
    return list(X)


def _only_column(frame: Any, name: str) -> list[Any]:
    named = frame.column_names if hasattr(frame, "column_names") else frame.columns
    columns = [] if named is None else list(named)  # a streamed data set may not know its columns
    if len(columns) != 1 or not hasattr(frame, "__len__"):
        msg = (
            f"{name} must be one column of texts. Got a {type(frame).__name__} with {len(columns)} "
            f"columns: select one of {[str(column) for column in columns]!r}, and give it as a "
            "list if it is streamed."
        )
        raise InvalidTextsError(msg)
    if hasattr(frame, "to_numpy"):
        return _flat(frame.to_numpy(), name)
    if hasattr(frame, "column"):  # a pyarrow table
        return frame.column(0).to_pylist()
    return list(frame[columns[0]])


def _flat(array: NDArray[Any], name: str) -> list[Any]:
    if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
        return array.ravel().tolist()
    msg = (
        f"{name} must be one-dimensional, or have one column. Got an array of shape "
        f"{array.shape}: give one text for each row."
    )
    raise InvalidTextsError(msg)


def _describe_wrong_text(name: str, text: Any) -> str:
    if is_missing(text):
        remedy = "a missing value: drop the row, or fill in a text"
    elif isinstance(text, bytes):
        remedy = "bytes: decode them first"
    elif isinstance(text, Sequence | np.ndarray):
        remedy = "a sequence: give one text for each row, such as its parts joined"
    else:
        remedy = "not a text: convert it with str() if you mean its text form"
    return f"{name} is {text!r} ({type(text).__name__}), expected a str. It is {remedy}."


def check_encodable(name: str, text: str) -> None:
    """Raise if a text has a lone surrogate, half of a character that no tokenizer can read.

    Raises
    ------
    InvalidTextsError
        If the text has a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = (
            f"{name} has a lone surrogate, {text[error.start]!r}, at character {error.start}, "
            "which no tokenizer can read. Replace it, for example with "
            "text.encode(errors='replace').decode()."
        )
        raise InvalidTextsError(msg) from None


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN or a missing value of pandas."""
    if value is None:
        return True
    if isinstance(value, str | bytes | Sequence | np.ndarray):
        return False
    try:
        return bool(value != value)  # noqa: PLR0124  (NaN is the value that differs from itself)
    except TypeError:  # the comparison of pandas.NA has no truth value
        return True
