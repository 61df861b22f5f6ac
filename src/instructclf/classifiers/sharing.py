"""Estimators that share a model: cloned without copying it, pickled without its weights."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import cache, wraps
from os import PathLike
from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator

from instructclf.bundled import model_path
from instructclf.classifiers.options import ModelOptions
from instructclf.classifiers.showing.card import add_card, visible_attributes
from instructclf.engine.interfaces import LanguageModel
from instructclf.engine.local_models import open_language_model
from instructclf.engine.models.names import find_path
from instructclf.engine.models.registry import clear_base_models
from instructclf.engine.running.processes import is_first_process
from instructclf.engine.running.progress import announced

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks  # pyright: ignore[reportAssignmentType]
except ImportError:  # before 1.9

    class CallbackSupportMixin:
        """A base without methods, for a scikit-learn without callbacks."""

    with_callbacks = None


@cache
def _make_default(kind: type[BaseEstimator]) -> BaseEstimator:
    """Return default options, which are read and never handed out."""
    return kind()


class SharedModelEstimator(CallbackSupportMixin, BaseEstimator):
    """Base of estimators over texts that hold a language model's name, or share the model itself.

    A subclass names in ``_FITTED`` the attribute that ``fit`` sets last, and in ``_OPTIONS`` the
    parameters that hold options, for which ``None`` stands for the defaults.
    """

    _FITTED: ClassVar[str]
    _OPTIONS: ClassVar[dict[str, type[BaseEstimator]]] = {"model_options": ModelOptions}
    _LIVE = ("_model", "_reader")
    """Attributes that read the model's weights, found again after unpickling."""
    model: str | PathLike[str] | tuple[Any, Any] | LanguageModel
    model_options: ModelOptions | None
    verbose: int | bool

    def open_model(self) -> LanguageModel:
        """Open the language model, loading it unless another estimator has done so.

        ``fit`` does this by itself. A service may call it at its start, after loading a classifier.

        Returns
        -------
        LanguageModel
            The model, which this estimator holds from now on.

        Raises
        ------
        InvalidParameterError
            If a parameter is outside its domain.
        ModelLoadingError
            If the model cannot be loaded.
        """
        self._validate_params()
        options = self._find_options("model_options")
        budget = options.max_batch_tokens
        with announced(_describe_loading(self.model), verbose=self.verbose):
            self._model = open_language_model(
                self.model,
                device=options.device,
                dtype=options.dtype,
                quantization=options.quantization,
                device_map=options.device_map,
                max_batch_tokens=None if budget == "auto" else int(budget),
                verbose=self.verbose,
            )
        return self._model

    def _fitted_model(self) -> LanguageModel:
        """Return the model that ``fit`` used, even if its name stands for another one now."""
        opened = vars(self).get("_model")
        return self.open_model() if opened is None else opened

    # Parameters

    def _find_options(self, name: str) -> Any:
        given = getattr(self, name)
        return _make_default(self._OPTIONS[name]) if given is None else given

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002  (scikit-learn's)
        """Return the parameters, including those of options that are left at ``None``.

        Parameters
        ----------
        deep : bool, default=True
            Whether to return nested parameters too, such as ``model_options__dtype``.

        Returns
        -------
        dict
            Values by name.
        """
        params = super().get_params(deep)
        for name in self._OPTIONS if deep else ():
            if params[name] is None:
                defaults = self._OPTIONS[name]().get_params()
                params |= {f"{name}__{own_name}": value for own_name, value in defaults.items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, nested ones too: ``set_params(model_options__dtype="bfloat16")``.

        Parameters
        ----------
        **params : object
            Values by name.

        Returns
        -------
        estimator
            This estimator.
        """
        for name, kind in self._OPTIONS.items():
            is_nested = any(given.startswith(f"{name}__") for given in params)
            if is_nested and params.get(name, getattr(self, name)) is None:
                setattr(self, name, kind())
                params.pop(name, None)
        return super().set_params(**params)

    def _validate_params(self) -> None:
        super()._validate_params()
        for name in self._OPTIONS:
            options = getattr(self, name)
            if isinstance(options, BaseEstimator):
                options._validate_params()  # noqa: SLF001  (scikit-learn's, for estimators)

    # Fitted state

    def __sklearn_is_fitted__(self) -> bool:
        return self._FITTED in vars(self)

    def __sklearn_clone__(self) -> Self:
        # scikit-learn copies parameters deeply, and a model given as an object must stay shared.
        bare = type(self).__new__(type(self))
        vars(bare).update(vars(self) | {"model": ""})
        clone: Any = super(SharedModelEstimator, bare).__sklearn_clone__()
        clone.model = self.model
        return clone

    def __getstate__(self) -> dict[str, Any]:
        if isinstance(self.model, tuple):
            msg = (
                f"A {type(self).__name__} whose 'model' is a pair of objects cannot be pickled: "
                "its base weights would go along. Save the model to a folder and give its path."
            )
            raise pickle.PicklingError(msg)
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name not in self._LIVE}

    @property
    def _writes_files(self) -> bool:
        """Whether this process writes, of several that share the work."""
        return self._find_options("model_options").distributed is None or is_first_process()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    # In a notebook

    def _html_repr(self) -> str:
        return add_card(self)

    def _repr_html_inner(self) -> str:
        return self._html_repr()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:  # before scikit-learn 1.7 this is the diagram alone
            bundle["text/html"] = self._html_repr()
        return bundle

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        above: Any = super()
        return visible_attributes(self, above._get_fitted_attr_html(doc_link))  # noqa: SLF001


def _describe_loading(model: Any) -> str:
    """Say which model is loaded and from where, or nothing of one that is loaded already."""
    if not isinstance(model, str | PathLike):
        return ""
    path = model_path() if model == "bundled" else find_path(str(model))
    where = path.absolute() if path else "the Hugging Face hub or its copy on this disk"
    return f"Loading the model {str(model)!r} from {where}"


def clear_models() -> None:
    """Forget the language models that this process keeps loaded for future estimators.

    At most two are kept, the most recently used. The memory of a model is free once no fitted
    estimator holds it either. Fitted estimators keep working; a model that is needed again is
    loaded again.

    Examples
    --------
    >>> import instructclf
    >>> instructclf.clear_models()
    """
    clear_base_models()


# Callbacks of scikit-learn


def observed(fit: Callable[..., Any]) -> Callable[..., Any]:
    """Tell callbacks when a fit begins and ends. They see it as one task.

    Parameters
    ----------
    fit : callable
        A method that takes ``X`` and ``y`` first and leaves its estimator fitted.

    Returns
    -------
    callable
        The method, which tells callbacks about itself; or the method as it was, without callbacks.
    """
    if with_callbacks is None:
        return fit

    @wraps(fit)
    def run(estimator: Any, X: Any = None, y: Any = None, *others: Any, **named: Any) -> Any:
        context = estimator._init_callback_context()  # noqa: SLF001  (documented for estimators)
        context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
        fitted = fit(estimator, X, y, *others, **named)
        context.call_on_fit_task_end(
            estimator=estimator,
            X=X,
            y=y,
            # A pair of objects as model is never copied, and this would copy it.
            reconstruction_attributes=None
            if isinstance(estimator.model, tuple)
            else lambda: _learned(estimator),
        )
        return fitted

    return with_callbacks(run)


def _learned(estimator: Any) -> dict[str, Any]:
    """Return the attributes that ``fit`` has set: everything but parameters and callbacks."""
    parameters = estimator.get_params(deep=False)
    return {
        name: value
        for name, value in vars(estimator).items()
        if name not in parameters and not name.startswith(("_skl", "_callback", "_parent_callback"))
    }
