"""What a manifest would do and cost: whoever submits one looks at this first."""

from collections import Counter
from dataclasses import dataclass, field

from worker.core.batch import Row
from worker.core.job.models import JSONObject


@dataclass(slots=True)
class Tally:
    """The sums of a manifest; credits are list prices."""

    rows: int = 0
    jobs: int = 0
    credits: float = 0
    operations: Counter[str] = field(default_factory=Counter)
    errors: int = 0

    def add(self, row: Row) -> None:
        """Add a row that is right."""
        self.rows += 1
        self.jobs += len(row.plan.operations)
        self.credits += row.plan.credits
        self.operations[row.name] += 1

    def to_json(self) -> JSONObject:
        return {name: getattr(self, name) for name in self.__slots__}
