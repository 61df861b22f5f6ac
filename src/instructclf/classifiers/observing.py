"""A fit → what scikit-learn's callbacks are told about it. Callbacks exist since 1.9."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks  # pyright: ignore[reportAssignmentType]
except ImportError:  # before 1.9

    class CallbackSupportMixin:
        """A base without methods, for a scikit-learn without callbacks."""

    with_callbacks = None


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
