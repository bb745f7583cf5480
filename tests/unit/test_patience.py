"""What only a leg knows is written as soon as Redis is there again, but not for ever."""

import pytest

from worker.engine.patience import insist


class Away(Exception):
    pass


class Outage:
    """A Redis that is away until a moment, and a clock that moves as one waits."""

    def __init__(self, until: float) -> None:
        self.now = 0.0
        self._until = until

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def write(self) -> str:
        if self.now < self._until:
            raise Away
        return "written"


def wait_out(outage: Outage) -> str:
    return insist(
        outage.write, unavailable=Away, seconds=60, clock=outage.clock, pause=outage.pause
    )


def test_it_is_written_when_redis_is_back() -> None:
    outage = Outage(until=5)
    assert wait_out(outage) == "written"
    assert outage.now == 5


def test_it_is_given_up_when_the_leg_is_taken_for_dead() -> None:
    outage = Outage(until=1000)
    with pytest.raises(Away):
        wait_out(outage)
    assert 60 < outage.now < 63
