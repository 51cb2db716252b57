"""What something other than a flow has to become."""

import pytest

from e2e.check import assert_becomes
from e2e.check.state import NotBecomeError


def test_what_becomes_so_is_so_several_times_in_a_row():
    seen = iter(["", "a", "", "a", "a", "a", "not looked at"])

    assert_becomes(lambda: next(seen), "a", within=5)

    assert next(seen) == "not looked at"


def test_what_does_not_is_shown():
    with pytest.raises(NotBecomeError, match=r"not within 0.01 s: want \['a'\], saw \['b'\]"):
        assert_becomes(lambda: ["b"], ["a"], within=0.01)
