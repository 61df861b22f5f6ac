"""The variants of the tuning benchmark, and the rows that they are tuned on."""

from __future__ import annotations

from dataclasses import dataclass

QUERIES_AND_VALUES = ("q_proj", "v_proj")
ALL_LINEAR = "all-linear"

OURS, OURS_BF16, OURS_UPPER = "instructclf", "instructclf, bf16 base", "instructclf, upper layers"
TRAINER, TRAINER_GROUPED = "Trainer", "Trainer, grouped by length"
TRL, TRL_GROUPED = "TRL", "TRL, grouped by length"
LOOP, LOOP_BF16 = "hand-written loop", "hand-written loop, bf16 base"


@dataclass(frozen=True)
class Case:
    """Rows to tune on, and the variants that are tuned.

    Parameters
    ----------
    model : str
        A name in ``models.MODELS``.
    n_rows : int
        How many rows.
    texts : str
        ``"reviews"`` for single ones, or ``"long"`` for texts of about 110 tokens.
    targets : str or tuple of str
        The layers that get an update.
    n_epochs : int
        Passes over the rows.
    variants : tuple of str
        Our classifier and its peers.
    measures_memory : bool, default=False
        Whether peaks of memory are measured too, each in a new process.
    at_most_rounds : int, default=99
        The most rounds, for cases that take minutes.
    """

    model: str
    n_rows: int
    texts: str
    targets: str | tuple[str, ...]
    n_epochs: int
    variants: tuple[str, ...]
    measures_memory: bool = False
    at_most_rounds: int = 99

    @property
    def title(self) -> str:
        layers = "all linear layers" if self.targets == ALL_LINEAR else "queries and values"
        kind = {"reviews": "reviews", "long": "long reviews"}[self.texts]
        return f"{self.model}, {self.n_rows} {kind}, {self.n_epochs} epoch(s), {layers}"


_ALL = (LOOP, LOOP_BF16, TRAINER, TRAINER_GROUPED, TRL, OURS, OURS_BF16)
_MAIN = (LOOP, TRAINER, TRL, OURS, OURS_BF16)
_GROUPED = (TRAINER_GROUPED, TRL_GROUPED, OURS, OURS_BF16)
_OF_TRAINER = (TRAINER, OURS, OURS_BF16)
_QV = QUERIES_AND_VALUES
CASES = (
    Case("smollm2", 16, "reviews", _QV, 1, _MAIN, measures_memory=True, at_most_rounds=2),
    Case("smollm2", 16, "reviews", ALL_LINEAR, 1, _OF_TRAINER, at_most_rounds=1),
    Case("bundled", 16, "reviews", _QV, 2, _ALL, measures_memory=True),
    Case("bundled", 16, "reviews", ALL_LINEAR, 2, _MAIN, measures_memory=True),
    Case("bundled", 16, "long", _QV, 2, _MAIN),
    Case("bundled", 512, "reviews", _QV, 1, _GROUPED, at_most_rounds=1),
)
"""Cases that take minutes a round are measured less often."""
UPPER_CASES = (
    Case("smollm2", 16, "reviews", ALL_LINEAR, 10, (OURS, OURS_UPPER), at_most_rounds=1),
    Case("bundled", 16, "reviews", ALL_LINEAR, 10, (OURS, OURS_UPPER)),
)
