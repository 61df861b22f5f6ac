import numpy as np
from numpy.testing import assert_array_equal

from instructclf.classifiers.wrapping.wrapper import take_rows


def test_what_has_an_entry_for_each_row_is_reduced_and_all_else_stays():
    given = {"weights": [1, 2, 3], "names": ["a", "b"], "how": "abc", "limits": {1: 2}, "k": 3}
    taken = take_rows(given, np.array([2, 0]), 3)
    assert_array_equal(taken.pop("weights"), [3, 1])
    assert taken == {name: given[name] for name in taken}
    assert set(taken) == {"names", "how", "limits", "k"}
