import io

import pytest

from pnil_tf import progress
from pnil_tf.progress import Progress, Stages
from pnil_tf.standard_streams import Guarded


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def test_a_log_has_a_line_now_and_then_with_the_time_left_of_the_whole(monkeypatch):
    clock, stream = Clock(monkeypatch), io.StringIO()
    stages = Stages("evaluation", stream=stream)
    stages.expect({"first": 10.0, "second": 30.0})
    first = stages.begin("first", 5)
    clock.now = 6.0
    first.advance_to(2)  # too early for a line
    clock.now = 20.0
    first.advance_to(5)  # 20 seconds for a quarter of the work
    first.close("all five")
    stages.begin("second", 4).close()
    stages.close()
    assert stream.getvalue().splitlines() == [
        "evaluation: 1:00 left (first: 5 of 5 images)",
        "first: all five (0:20)",
    ]


def test_what_is_done_between_two_units_is_shown_now_and_then(monkeypatch):
    clock, stream = Clock(monkeypatch), io.StringIO()
    shown = Progress("training", 4, "step", stream=stream)
    for now, text in ((1.0, "too early"), (11.0, "guard: 8 of 20 images"), (30.0, "")):
        clock.now = now
        shown.meanwhile(text)
    assert stream.getvalue().splitlines() == ["training: guard: 8 of 20 images"]


def test_a_slow_beginning_does_not_foretell_the_whole(monkeypatch):
    """Making graphs takes long before the first images are done."""
    clock, stream = Clock(monkeypatch), io.StringIO()
    stages = Stages("evaluation", stream=stream)
    stages.expect({"first": 100.0, "second": 300.0})
    first = stages.begin("first", 200)
    clock.now = 40.0
    first.advance_to(2)  # a second's work: at this pace the whole would take four hours
    clock.now = 80.0
    first.advance_to(80)  # from a tenth of the whole on, its own pace counts
    # (40 + 39) seconds for the first tenth, and 399 of 400 seconds' work to come
    assert stream.getvalue().splitlines() == [
        "evaluation: 13:08 left (first: 2 of 200 images)",
        "evaluation: 12:00 left (first: 80 of 200 images)",
    ]


def test_a_terminal_has_one_bar_for_the_whole():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    stages = Stages("evaluation", stream=stream)
    stages.expect({"first": 1.0, "second": 3.0})
    first = stages.begin("first", 2)
    first.advance_to(1)
    bar = stages._bar
    assert (bar.n, bar.total) == (0.5, 4.0)
    first.close("done")
    assert bar.n == 1.0
    stages.begin("a surprise", 1).close()  # what nobody expected moves nothing
    assert bar.n == 1.0
    stages.expect_more({"third": 4.0})
    stages._start -= 60  # as if a minute had passed
    stages.begin("third", 2).close()
    assert (bar.n, bar.total) == (5.0, 8.0)
    assert bar.postfix.startswith("0:36 left (third")  # 3 of 8 are still to come
    stages.close()
    assert "evaluation" in stream.getvalue()
    assert "first: done" in stream.getvalue()
    assert "left (first: 2 of 2 images)" in stream.getvalue()


@pytest.mark.parametrize("kind", [Stages, Progress])
def test_the_bar_of_a_command_moves_the_cursor_and_shows_no_other_control_characters(kind):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    guarded = Guarded(stream)
    if kind is Stages:
        shown = Stages("work", stream=guarded)
        shown.expect({"first": 1.0})
        shown.begin("first", 2).advance_to(1)
    else:
        shown = Progress("work", 2, stream=guarded)
        shown.advance_to(1)
    shown.say("a name\x1b[2J")
    shown.close()
    assert "\r" in stream.getvalue()
    assert "\\r" not in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()


def test_silence():
    stream = io.StringIO()
    stages = Stages("evaluation", verbose=0, stream=stream)
    stages.expect({"first": 1.0})
    stages.begin("first", 2).close("done")
    stages.say("something")
    stages.close()
    assert stream.getvalue() == ""
