"""What a replicator remembers of refused plans."""

from dataclasses import replace

from tests.package.unit.failover.support import REQUEST, a_refusal

from omnirelay.runtime.refusals import MOST, QUIET_SECONDS, Refusals


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return round(self.now * 1000)


def noted(refusals: Refusals) -> list[str]:
    """The tickets that are due now, told in turn."""
    tickets = []
    while waiting := refusals.due():
        waiting.settled = True
        tickets.append(waiting.refusal.request.change_ticket)
    return tickets


def test_what_is_remembered_is_bounded_and_later_there_is_room_again(caplog):
    clock = Clock()
    refusals = Refusals(clock)
    tickets = [f"CHG-{n}" for n in range(MOST + 50)]
    for ticket in tickets:
        refusals.add(a_refusal(request=replace(REQUEST, change_ticket=ticket)))
    clock.now = 10
    assert noted(refusals) == tickets[:MOST]
    assert "ticket CHG-249 of a refused plan: it is not noted, there are too many" in caplog.text
    clock.now = QUIET_SECONDS
    refusals.add(a_refusal(request=replace(REQUEST, change_ticket=tickets[-1])))
    clock.now += 10
    assert noted(refusals) == [tickets[-1]]


def test_who_has_waited_longest_is_next():
    clock = Clock()
    refusals = Refusals(clock)
    for ticket in ("CHG-1", "CHG-2"):
        refusals.add(a_refusal(request=replace(REQUEST, change_ticket=ticket)))
        clock.now += 1
    clock.now = 10
    assert noted(refusals) == ["CHG-1"]
    clock.now = 11
    assert noted(refusals) == ["CHG-2"]


def test_a_ticket_that_fails_lets_the_next_one_go_first():
    clock = Clock()
    refusals = Refusals(clock)
    for ticket in ("CHG-1", "CHG-2"):
        refusals.add(a_refusal(request=replace(REQUEST, change_ticket=ticket)))
    clock.now = 10
    refusals.put_off(refusals.due(), None, 60)
    assert noted(refusals) == ["CHG-2"]
    clock.now = 12
    assert noted(refusals) == ["CHG-1"]
