"""Python in processes of their own, which have read no settings yet."""

import json
import subprocess
import sys
from typing import Any

from tests.unit.recorded import ROOT

ENVIRONMENT = {"FERMATA_REDIS_URL": "redis://127.0.0.1:1/0", "PYTHONPATH": str(ROOT)}

# Celery reads the settings once in a process, when it registers a task. So each test needs its own.
DECLARED = """
import inspect, json
from worker.app import app
app.loader.import_default_modules()
REQUIRED = inspect.Parameter.empty
print(json.dumps({
    name: {
        "operation": task.operation.name,
        "doc": inspect.getdoc(task.run) or "",
        "module": task.run.__module__,
        "soft_time_limit": task.soft_time_limit,
        "queue": getattr(task, "queue", None),
        "parameters": {
            each.name: {"kind": each.kind.name, "required": each.default is REQUIRED,
                        "type": str(each.annotation).removeprefix("typing."),
                        "default": None if each.default is REQUIRED else each.default}
            for each in inspect.signature(task.run).parameters.values()
        },
    }
    for name, task in app.tasks.items() if hasattr(task, "operation")
}))
"""


def python(code: str) -> Any:
    """Run Python code that prints JSON, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
