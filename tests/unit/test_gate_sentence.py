"""The gate as one sentence, on the page and in the terminal."""

from worker.core.job.lanes import Limits
from worker.core.overview import GateView, Pause, gate_sentence

NOW = 1_763_800_000.0


def test_an_open_gate_is_one_sentence() -> None:
    gate = GateView(in_flight=37, credits=1840)
    limits = Limits(submits_per_second=2, in_flight=50, credit_floor=500)
    said = gate_sentence(gate, limits, now=NOW)
    assert said == "open: 37 of 50 at the provider, 2 a second, 1,840 credits, floor 500"


def test_without_limits_the_sentence_says_only_what_is_known() -> None:
    gate = GateView(in_flight=3, waiting={("batch", "acme"): 1200})
    said = gate_sentence(gate, Limits(), now=NOW)
    assert said == "open: 3 jobs at the provider, 1,200 waiting"


def test_a_closed_gate_says_why_for_how_long_and_when_it_probes() -> None:
    gate = GateView("OutOfCredits", closed_at=NOW - 240, probe_at=NOW + 12.3)
    said = gate_sentence(gate, Limits(), now=NOW)
    assert said == "closed for 4 min (OutOfCredits, next probe in 13 s): 0 jobs at the provider"
    late = GateView("KeyRefused", probe_at=NOW - 1)
    said = gate_sentence(late, Limits(), now=NOW)
    assert said == "closed (KeyRefused, next probe now): 0 jobs at the provider"


def test_a_paused_gate_says_who_paused_it() -> None:
    gate = GateView("OutOfCredits", paused_by="ada (desk)", paused_at=NOW - 8)
    said = gate_sentence(gate, Limits(), now=NOW)
    assert said == ("paused 8 s ago by ada (desk); closed (OutOfCredits): 0 jobs at the provider")


def test_a_floor_without_a_balance_says_so() -> None:
    said = gate_sentence(GateView(credits=None), Limits(credit_floor=0.5), now=NOW)
    assert said == "open: 0 jobs at the provider, balance not known yet, floor 0.5"


def test_a_gate_whose_times_were_not_written_names_none() -> None:
    # Written by hand, or between the two commands of a worker that closes it.
    said = gate_sentence(GateView("a reason", paused_by="ada"), Limits(), now=NOW)
    assert said == "paused by ada; closed (a reason): 0 jobs at the provider"


def test_what_is_paused_is_named_while_it_is_little() -> None:
    pauses = [Pause("tenant", f"t-{n}", "ada", NOW - 70, held=2) for n in range(4)]
    said = gate_sentence(GateView(pauses=pauses[:1]), Limits(), now=NOW)
    assert said == "open; tenant t-0 paused 1 min 10 s ago by ada: 0 jobs at the provider"
    closed = GateView("a reason", pauses=[Pause("operation", "sonic.wav", "bob", NOW)])
    said = gate_sentence(closed, Limits(), now=NOW)
    assert said.startswith("closed (a reason); operation sonic.wav paused 0 s ago by bob: ")
    said = gate_sentence(GateView(pauses=pauses), Limits(), now=NOW)
    assert said == "open; 4 tenants and operations paused: 0 jobs at the provider"
