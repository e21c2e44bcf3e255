"""What is left of a run is told of all of it, at the pace that it shows."""

import pytest

from core import paths, run_progress, runs
from core.forecast import Forecast, Line
from core.run_progress import Control, Reporter
from core.runs import Phase
from core.settings import Method

PLAN = Forecast({Phase.REFERENCE: 20, Phase.TRAINING: 100, Phase.EVALUATING: 40}, [10, 10, 40, 40])


def test_what_is_left_goes_on_at_the_pace_so_far():
    assert PLAN.left_s(Phase.TRAINING, 0, 2, 4, elapsed_s=20) == 80 + 40
    assert PLAN.left_s(Phase.TRAINING, 0, 2, 4, elapsed_s=60) == 3 * (80 + 40)
    assert PLAN.left_s(Phase.REFERENCE, 0, 30, 60, elapsed_s=10) == 10 + 100 + 40
    assert PLAN.left_s(Phase.EVALUATING, 0, 3, 4, elapsed_s=60) == 20


def test_a_resumed_run_counts_from_where_it_goes_on():
    assert PLAN.left_s(Phase.TRAINING, 2, 3, 4, elapsed_s=20) == (40 + 40) / 2


def test_nothing_is_said_before_anything_is_done():
    assert PLAN.left_s(Phase.TRAINING, 0, 0, 4, elapsed_s=5) is None
    assert PLAN.left_s(Phase.TRAINING, 2, 2, 4, elapsed_s=5) is None
    assert PLAN.left_s(Phase.EVALUATING, 0, 0, 0, elapsed_s=5) is None


def test_a_phase_that_was_not_foreseen_tells_of_itself():
    assert Forecast().left_s(Phase.TOKENISING, 0, 25, 100, elapsed_s=2) == 6
    assert PLAN.left_s(Phase.TRAINING, 0, 5, 10, elapsed_s=50) == 50 + 40


def test_a_line_through_two_timings():
    line = Line.through([(1, 9.0), (10, 2.0), (110, 12.0)])
    assert (line.call_s, line.token_s, line.of(210)) == pytest.approx((1.0, 0.1, 22.0))
    assert Line.through([(10, 3.0), (100, 2.0)]) == Line(2.0, 0.0), "a timing that shook"
    assert Line.through([(10, 0.1), (100, 2.0)]).call_s == 0.0


@pytest.fixture
def reporter(monkeypatch: pytest.MonkeyPatch) -> Reporter:
    paths.ensure_home()
    monkeypatch.setattr(run_progress.time, "monotonic", lambda: now[0])
    now[0] = 1000.0
    return Reporter(runs.create(Method.DPO, "run"), Control(), forecast=PLAN)


now = [0.0]


def test_a_runs_status_says_what_is_left_of_all_its_phases(reporter):
    reporter.phase(Phase.TRAINING, 4)
    reporter.progress(phase_done=0, step=0)
    assert reporter.run.eta_s is None
    now[0] += 20
    reporter.progress(phase_done=2, step=2)
    assert runs.read_run("run").eta_s == 80 + 40
    now[0] += 80
    reporter.progress(phase_done=4, step=4)
    assert runs.read_run("run").eta_s == 40


def test_neither_a_pause_nor_what_is_served_is_part_of_the_pace(reporter):
    reporter.phase(Phase.TRAINING, 4)
    now[0] += 20
    reporter.control.is_paused = True
    reporter.control.serve = lambda: wait(reporter.control)
    reporter.serve()
    reporter.progress(phase_done=2, step=2)
    assert reporter.run.eta_s == 80 + 40


def wait(control: Control) -> None:
    now[0] += 500
    control.is_paused = now[0] < 2000
