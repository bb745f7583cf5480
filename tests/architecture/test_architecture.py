"""The house as it was drawn: who may import whom, what an import does, what the wheel holds."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from worker.core.contract import NOTIFY, SCHEDULE_RUN, SCHEDULE_TICK, TASK_PREFIX, task_name
from worker.core.providers.aimusic.operations import OPERATIONS

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("worker", "tasks", "webhook_receiver", "desk", "simulator", "fermata_client")
REDIS_URL = "redis://127.0.0.1:1/0"
LINT = "from importlinter.cli import lint_imports_command as go; go(['--no-cache'])"


def run(*command: str, cwd: Path = ROOT, **environment: str) -> str:
    """Run a Python command in an environment that holds nothing else; returns what it printed."""
    done = subprocess.run(
        [sys.executable, *command],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(question: str, *arguments: str, **options: Any) -> Any:
    """Run Python code that prints JSON."""
    return json.loads(run("-c", question, *arguments, **options))


def modules() -> list[str]:
    """Name every module of ours that may be imported without anything happening."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = (path.relative_to(ROOT).with_suffix("") for path in files)
    names = {".".join(each.parts).removesuffix(".__init__") for each in found}
    return sorted(
        n for n in names if not n.endswith(("__main__", "webhook_receiver.wsgi", "desk.wsgi"))
    )


# -- imports ----------------------------------------------------------------------------------


def test_dependencies_point_one_way() -> None:
    run("-c", LINT, PATH="/usr/bin:/bin")


BREAKS = {
    "the simulator stands alone": ("simulator/__init__.py", "import worker.log"),
    "the client can be taken out": ("fermata_client/__init__.py", "import worker.log"),
    "nothing of ours is built on": ("worker/log.py", "import fermata_client"),
    "dependencies point one way": ("worker/log.py", "import tasks.sonic"),
    "the desk decides nothing": ("desk/parts.py", "import worker.app.revoke"),
    "rooms are entered from above": ("worker/store/gate.py", "import worker.engine.cancel"),
    "the engine depends on ports": ("worker/engine/cancel.py", "import worker.store.records"),
    "only the rooms that face Celery": ("worker/engine/cancel.py", "import celery"),
    "one module knows OpenTelemetry": ("worker/log.py", "import opentelemetry.trace"),
    "the core is sans-IO": ("worker/core/keys.py", "import socket"),
    "what a job does is the same": ("worker/engine/cancel.py", "import worker.provider"),
    "a provider is one folder": (
        "worker/messages/press.py",
        "import worker.core.providers.aimusic.fields",
    ),
}


@pytest.mark.parametrize("contract", BREAKS)
def test_a_contract_that_is_broken_is_told(contract: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    hidden = shutil.ignore_patterns("__pycache__")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=hidden)
    path, statement = BREAKS[contract]
    with (tmp_path / path).open("a") as module:
        module.write(f"\n{statement}\n")
    said = subprocess.run(
        [sys.executable, "-c", LINT], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert said.returncode == 1
    broken = [line for line in said.stdout.splitlines() if line.endswith("BROKEN")]
    assert any(line.startswith(contract) for line in broken), said.stdout


def test_the_core_imports_the_standard_library_and_marshmallow_alone() -> None:
    loaded = ask(
        "import json, pkgutil, sys, importlib\n"
        "before = set(sys.modules)\n"
        "import worker.core\n"
        "for each in pkgutil.walk_packages(worker.core.__path__, 'worker.core.'):\n"
        "    importlib.import_module(each.name)\n"
        "print(json.dumps(sorted({m.partition('.')[0] for m in set(sys.modules) - before}\n"
        "                        - set(sys.stdlib_module_names))))",
    )
    assert {name for name in loaded if not name.startswith("_")} <= {"worker", "marshmallow"}


def test_the_contract_can_be_vendored_by_a_backend(tmp_path: Path) -> None:
    shutil.copy(ROOT / "worker/core/contract.py", tmp_path / "contract.py")
    printed = run("-S", "-I", "-c", "import runpy; print(runpy.run_path('contract.py')['QUEUE'])",
                  cwd=tmp_path)  # fmt: skip
    assert printed == "fermata\n"


def test_the_simulator_loads_nothing_of_ours() -> None:
    names = [name for name in modules() if name.startswith("simulator")]
    loaded = ask(
        "import importlib, json, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(json.dumps(sorted(sys.modules)))",
        *names,
    )
    assert not {m.partition(".")[0] for m in loaded} & {"worker", "tasks", "webhook_receiver"}


NOT_THE_RECEIVERS = {"tasks", "celery", "kombu", "billiard", "amqp", "requests", "yaml"}


def test_the_receiver_loads_neither_a_task_nor_celery_nor_kombu() -> None:
    loaded = ask("import json, sys, webhook_receiver.app; print(json.dumps(list(sys.modules)))")
    assert not {name.partition(".")[0] for name in loaded} & NOT_THE_RECEIVERS


def test_a_receiver_that_is_built_loads_none_either() -> None:
    key = "k4JtXb0PZqv7LwY2cRn8sUe6hDf3aGm1"
    loaded = ask(
        "import json, sys, webhook_receiver.wsgi; print(json.dumps(list(sys.modules)))",
        FERMATA_REDIS_URL=REDIS_URL,
        FERMATA_SIGNING_KEYS=key,
    )
    assert not {name.partition(".")[0] for name in loaded} & NOT_THE_RECEIVERS


# -- what an import does ----------------------------------------------------------------------

_WATCHED = """
import importlib, os, sys, threading
seen = []
read = os._Environ.__getitem__
def reading(environment, name):
    if name.startswith(("FERMATA_", "CELERY_BROKER", "CELERY_RESULT")):
        seen.append(f"reads {name}")
    return read(environment, name)
os._Environ.__getitem__ = reading
def watch(event, arguments):
    if event in ("socket.connect", "subprocess.Popen", "os.fork", "os.mkdir"):
        seen.append(event)
    elif event == "open" and str(arguments[0]).endswith((".env", ".conf")):
        seen.append(f"opens {arguments[0]}")
    elif event == "open" and set(str(arguments[1])) & set("wax+"):
        seen.append(f"writes {arguments[0]}")
sys.addaudithook(watch)
for module in sys.argv[1:]:
    importlib.import_module(module)
    seen += [f"starts {thread.name}" for thread in threading.enumerate()[1:]]
    assert not seen, f"importing {module}: {seen}"
"""


def test_an_import_reads_no_setting_and_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FERMATA_REDIS_URL=nonsense\n")
    quiet = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}
    run("-c", _WATCHED, *modules(), cwd=tmp_path, **quiet)


@pytest.mark.parametrize(
    ("rude", "noticed"),
    [
        ("import os; os.environ.get('FERMATA_API_KEY')", "reads FERMATA_API_KEY"),
        ("import socket; socket.socket().connect_ex(('127.0.0.1', 1))", "socket.connect"),
        ("open('x.log', 'a').close()", "writes x.log"),
    ],
)
def test_the_test_above_would_notice(rude: str, noticed: str, tmp_path: Path) -> None:
    (tmp_path / "rude.py").write_text(rude)
    with pytest.raises(AssertionError, match=f"importing rude: .*{noticed}"):
        run("-c", _WATCHED, "rude", cwd=tmp_path, PYTHONDONTWRITEBYTECODE="1")


# -- task names -------------------------------------------------------------------------------


def registered() -> set[str]:
    names: list[str] = ask(
        "import json\n"
        "from worker.app import app\n"
        "app.loader.import_default_modules()\n"
        "print(json.dumps(list(app.tasks)))",
        FERMATA_REDIS_URL=REDIS_URL,
    )
    return {name for name in names if name.startswith(TASK_PREFIX)}


def test_every_task_is_an_operation_or_a_follow_up_and_the_other_way_round() -> None:
    flows = (ROOT / "tasks/flows.py").read_text()
    helpers = {task_name(name) for name in re.findall(r'name=task_name\("(flows\.\w+)"\)', flows)}
    assert helpers
    follow_ups = helpers | {task_name("archive.store"), NOTIFY}
    ours = follow_ups | {SCHEDULE_TICK, SCHEDULE_RUN}
    assert registered() == ours | {task_name(name) for name in OPERATIONS}


def test_no_task_of_ours_is_shared_with_other_celery_apps() -> None:
    shared = ask(
        "import json\n"
        "from celery import Celery\n"
        "import tasks.sonic, tasks.account, tasks.flows, tasks.archive, tasks.notify\n"
        "print(json.dumps(list(Celery('stranger').tasks)))",
        FERMATA_REDIS_URL=REDIS_URL,
    )
    assert not [name for name in shared if name.startswith(TASK_PREFIX)]


def test_the_app_includes_every_module_of_tasks() -> None:
    included = ask(
        "import json; from worker.app import app; print(json.dumps(list(app.conf.include)))",
        FERMATA_REDIS_URL=REDIS_URL,
    )
    declared = {path.stem for path in (ROOT / "tasks").glob("*.py")} - {"__init__"}
    assert set(included) == {f"tasks.{name}" for name in declared}


# -- the wheel and the locks ------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the wheel from a copy of the tree, with a neighbour; returns the names of its files."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    hidden = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "demo-output")
    shutil.copytree(ROOT, tree, ignore=hidden)
    shutil.copytree(tree / "tasks", tree / "worker_old")
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
        "--no-cache-dir", "--disable-pip-version-check", "--wheel-dir", str(folder), str(tree),
        PATH="/usr/bin:/bin")  # fmt: skip
    (built,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(built).namelist())


def test_the_wheel_holds_our_packages_and_no_other(wheel: set[str]) -> None:
    held = {name.partition("/")[0] for name in wheel if name.endswith(".py")}
    assert held == set(PACKAGES)


def test_the_wheel_holds_every_file_of_our_packages(wheel: set[str]) -> None:
    ours = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in wheel if ".dist-info/" not in name}
    assert held == ours
    assert {name for name in held if name.endswith(".lua")} >= {"worker/store/lua/claim.lua"}


def test_every_package_that_is_installed_says_that_it_is_typed(wheel: set[str]) -> None:
    installed = {name.partition("/")[0] for name in wheel if name.endswith(".py")}
    assert {f"{package}/py.typed" for package in installed} <= wheel


def test_nobody_puts_the_project_on_an_index_by_mistake() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "Private :: Do Not Upload" in project["classifiers"]


LOCKS = ("requirements.lock", "requirements-dev.lock")


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"http(?!x|core)", text.lower())  # two packages bear the word
    assert not re.search(r"^\s*--(?!hash=)", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_of_a_lock_is_pinned_and_hashed(lock: str) -> None:
    text = re.sub(r"\\\n", " ", (ROOT / lock).read_text())
    lines = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    assert len(lines) > 10
    for line in lines:
        assert re.match(r"[A-Za-z0-9._\[\]-]+==\S+ ", line), line
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), line


def test_the_lock_holds_what_the_project_needs() -> None:
    def name(requirement: str) -> str:
        found = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert found
        return re.sub(r"[-_.]+", "-", found[0]).lower()

    def locked(lock: str) -> set[str]:
        text = (ROOT / lock).read_text()
        return {name(each) for each in re.findall(r"^[A-Za-z0-9._-]+==", text, re.MULTILINE)}

    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {name(each) for each in pyproject["project"]["dependencies"]}
    developing = {name(each) for each in pyproject["dependency-groups"]["dev"]}
    assert needed <= locked("requirements.lock") <= locked("requirements-dev.lock")
    assert developing <= locked("requirements-dev.lock")
