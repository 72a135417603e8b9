"""Some of the tries of wrong_input, which makes all of them where it is asked to; see docs/reliability.md."""

from wrong_input import all_of, tries

COMMANDS_TRIED = 30
EVERY = 61


def test_what_a_user_gets_wrong_is_told_in_one_line_and_leaves_nothing():
    chosen = [a_try for a_try in tries() if not a_try.may_load][::EVERY]
    assert len({a_try.command for a_try in tries()}) > COMMANDS_TRIED
    assert len(chosen) >= 25
    faults = [(a_try.words, found, ended.err) for a_try, ended, found in all_of(chosen) if found]
    assert faults == []
