"""Child processes that a test may kill or limit, without the cost of importing.

They are forked from a server that has imported everything and computed nothing.
"""

from __future__ import annotations

import multiprocessing

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["peft", "tests.fixtures", "instructclf.classifiers.loading"])
