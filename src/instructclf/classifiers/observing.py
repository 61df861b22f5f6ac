"""A fit → what callbacks of scikit-learn are told about it, where scikit-learn has any (1.9)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks  # pyright: ignore[reportAssignmentType]
except ImportError:  # before 1.9: there is no set_callbacks, and nobody to tell

    class CallbackSupportMixin:
        """Stands where scikit-learn has no callbacks."""

    with_callbacks = None


class ObservedFit(CallbackSupportMixin):
    """Base of estimators whose ``fit`` callbacks can follow: progress bars, also in searches."""


def observed(fit: Callable[..., Any]) -> Callable[..., Any]:
    """Let callbacks know when a fit begins and ends. It is one task to them.

    Parameters
    ----------
    fit : callable
        A method that takes ``X`` and ``y`` first and leaves its estimator fitted.

    Returns
    -------
    callable
        The same method, observed; or the very same, where scikit-learn has no callbacks.
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
    """Return all that ``fit`` has set, which is all there is beside parameters."""
    parameters = estimator.get_params(deep=False)
    return {
        name: value
        for name, value in vars(estimator).items()
        if name not in parameters and not name.startswith(("_skl", "_callback", "_parent_callback"))
    }
