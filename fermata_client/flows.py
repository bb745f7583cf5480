"""A plan of jobs that are enqueued together: a first, perhaps a second, then parallel branches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fermata_client.contract import ARCHIVE, job_id_after

Branch = tuple[str, ...]
"""Operations in sequence, each of which takes the result of the one before; the archive may be the
last."""


def jobs_of(branch: Branch) -> Branch:
    """Leave out the archive at the end of a branch."""
    return branch[:-1] if branch[-1:] == (ARCHIVE,) else branch


@dataclass(frozen=True, slots=True)
class Plan:
    """The operations of a flow, and which operation takes which parameter."""

    operation: str
    then: str | None = None
    branches: tuple[Branch, ...] = ()
    preset: Mapping[str, Any] = field(default_factory=dict)
    takes: frozenset[str] = frozenset()
    """The parameters of the first operation, if a second one takes the others."""

    def parameters(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Split the parameters between the first operation and the second."""
        every = {**self.preset, **given}
        if self.then is None:
            return every, {}
        first = {name: value for name, value in every.items() if name in self.takes}
        return first, {name: value for name, value in every.items() if name not in first}

    @property
    def trunk(self) -> int:
        """How many jobs come before the branches."""
        return 2 if self.then else 1

    def split(self, jobs: Sequence[Any]) -> list[list[Any]]:
        """Split a list with one item for each job after the trunk into the branches."""
        remaining = iter(jobs)
        return [[next(remaining) for _ in jobs_of(branch)] for branch in self.branches]

    def steps(self, job_id: str) -> "Iterator[Step]":
        """Yield its jobs, each after the one it follows; their ids derive from the first's."""
        fork = Step(job_id, self.operation)
        yield fork
        if self.then:
            fork = Step(job_id_after(fork.job_id, "then"), self.then, fork.job_id)
            yield fork
        for number, branch in enumerate(self.branches):
            before = fork.job_id
            for operation in jobs_of(branch):
                step = Step(job_id_after(before, str(number)), operation, before)
                yield step
                before = step.job_id


@dataclass(frozen=True, slots=True)
class Step:
    """One job of a flow, and the job it follows."""

    job_id: str
    operation: str
    after: str | None = None


def ends(steps: Sequence[Step]) -> list[str]:
    """Name the jobs that no other follows."""
    followed = {step.after for step in steps}
    return [step.job_id for step in steps if step.job_id not in followed]
