"""What two processes exchange: run in each of them by a launcher, which passes a folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from instructclf.engine.running.processes import current_processes, sharing_work
from instructclf.exceptions import OtherProcessError


def exchange(processes):
    rank = processes.rank
    rows = np.zeros(5)
    rows[processes.local_rows] = rank + 1
    weights = [nn.Parameter(torch.full((2, 3), float(rank), dtype=torch.float64))]
    weights += [nn.Parameter(torch.full((4,), rank + 0.5)) for _ in range(2)]
    weights[0].grad = torch.full((2, 3), rank + 1.0, dtype=torch.float64)
    weights[1].grad = torch.ones(4)
    weights[2].grad = torch.ones(4) if rank else None
    processes.sum_gradients(weights)
    processes.copy_from_first(weights)
    generator = np.random.RandomState(rank)
    return {
        "rank": rank,
        "sum": processes.sum(rows).tolist(),
        "thirds": processes.sum(np.array([1 / 3, 0.1]) * (rank + 1)).tolist(),
        "gradients": [weight.grad.tolist() for weight in weights],
        "weights": [weight.tolist() for weight in weights],
        "object": processes.from_first({"of": rank}),
        "drawn": processes.agree_on(generator, is_given=True).randint(1000),
        "seeded": processes.agree_on(np.random.RandomState(rank), is_given=False).randint(1000),
    }


def compare_rows(processes):
    processes.check_alike(["same"], "rows")
    try:
        processes.check_alike(["same", processes.rank], "rows")
    except ValueError as error:
        return str(error)


def write_to_a_full_disk():
    raise OSError("its disk is full")


def fail(rank, *, before_exchange):
    """Fail in the second process, before the others exchange something or at the end."""
    try:
        with sharing_work("auto") as processes:
            if rank == 1:
                write_to_a_full_disk()
            if before_exchange:
                processes.sum(np.ones(1))
    except (OSError, OtherProcessError) as error:
        return f"{type(error).__name__}: {error}"


def main(folder):
    with sharing_work("auto") as processes, sharing_work("auto") as inner:
        assert inner is processes is current_processes()
        found = exchange(processes) | {"other rows": compare_rows(processes)}
    assert current_processes().size == 1
    with sharing_work(None) as alone:
        found["alone"] = alone.size
    found["failure"] = fail(found["rank"], before_exchange=True)
    found["failure at the end"] = fail(found["rank"], before_exchange=False)
    Path(folder, f"{found['rank']}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
