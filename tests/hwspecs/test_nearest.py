"""What a message offers for a wrong name."""

from hwspecs.errors import nearest


def test_a_name_known_twice_is_offered_once() -> None:
    assert nearest("h200x", ["h200", "h200"]) == "; did you mean 'h200'?"
    assert nearest("h20", ["h200", "h200"]) == "; did you mean 'h200'?"
