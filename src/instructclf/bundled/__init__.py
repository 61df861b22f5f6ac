"""The small causal language model that comes with the package."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).resolve().parent / "model"


def model_path() -> Path:
    """Return the folder of the bundled model.

    Returns
    -------
    pathlib.Path
        A folder with weights, configuration and tokenizer, in the format of ``transformers``.

    Raises
    ------
    FileNotFoundError
        If the weights are missing.

    Examples
    --------
    >>> model_path().name
    'model'
    """
    weights = _FOLDER / "model.safetensors"
    if not weights.is_file():
        msg = (
            f"The weights of the bundled model, {weights}, are missing. Reinstall the package, or "
            "pass the path of another model."
        )
        raise FileNotFoundError(msg)
    return _FOLDER
