"""Stray packets: what the words of the script mean."""

import pytest

from e2e.cluster.stray import reply_of
from e2e.errors import ProbeBrokenError
from e2e.probe import ANSWERED, CUT_OFF, FOREIGN, REFUSED, SILENT


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("echo-a-0", ANSWERED),
        ("<html>", FOREIGN),
        ("! Connection reset by peer", CUT_OFF),
        ("! Broken pipe", CUT_OFF),
        ("! closed", CUT_OFF),
        ("! timed out", SILENT),
        ("! Connection refused", REFUSED),
    ],
)
def test_the_words_of_the_script_are_outcomes(said, outcome):
    """The last answer is read as any echo's, and an error is named by how the call ended."""
    assert reply_of("caller", said).outcome == outcome


def test_an_unknown_word_is_a_broken_probe():
    """Who does not know how a call ended does not call it an end."""
    with pytest.raises(ProbeBrokenError, match="Operation not permitted"):
        reply_of("caller", "! Operation not permitted")
