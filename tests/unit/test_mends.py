"""What we change in libraries is listed, tested, and bound to the versions that it was read at."""

import ast
from contextlib import nullcontext
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from kombu.transport import redis, virtual

from tests.system import ROOT
from worker import mends
from worker.core.errors import ConfigError
from worker.mends import redelivery
from worker.store import scripts


def test_the_libraries_that_are_locked_are_those_that_were_read() -> None:
    mends.require()


@pytest.mark.parametrize("mend", mends.MENDS, ids=lambda mend: mend.hook)
def test_a_mend_names_its_module_and_a_test_that_there_is(mend: mends.Mend) -> None:
    assert (ROOT / "worker" / mend.ours).is_file()
    path, _, name = mend.test.partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_another_minor_version_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"celery": "5.8.1", "kombu": "5.7.9", "billiard": "4.3.2"}
    monkeypatch.setattr(metadata, "version", versions.__getitem__)
    with pytest.raises(ConfigError, match=r"celery is 5\.8\.1, not 5\.7") as refused:
        mends.require()
    assert "kombu" not in refused.value.message
    assert "Install what requirements.lock names." in refused.value.message


@pytest.mark.parametrize(
    ("installed", "accepted"),
    [("5.7", True), ("5.7.0rc1", True), ("5.70.1", False), ("5.7rc1", False), ("5", False)],
)
def test_a_version_is_compared_part_by_part(
    installed: str, accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"celery": installed, "kombu": "5.7.9", "billiard": "4.3.2"}
    monkeypatch.setattr(metadata, "version", versions.__getitem__)
    with nullcontext() if accepted else pytest.raises(ConfigError, match="celery is"):
        mends.require()


def test_a_package_that_is_not_installed_is_named_beside_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version(package: str) -> str:
        if package == "kombu":
            raise metadata.PackageNotFoundError(package)
        return "5.8.1"

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(
        ConfigError, match=r"celery is 5\.8\.1, not 5\.7; kombu is not installed; billiard is"
    ):
        mends.require()


INHERITED = "kombu.transport.redis:QoS.restore_unacked_once"


@pytest.mark.parametrize(
    "hook", ["celery.app.trace:Gone", "celery.gone:x", "kombu:Queue.gone.x", INHERITED]
)
def test_a_name_that_is_gone_is_refused(hook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = replace(mends.MENDS[0], hook=hook)
    monkeypatch.setattr(mends, "MENDS", (*mends.MENDS, gone))
    with pytest.raises(ConfigError, match=f"there is no {hook}"):
        mends.require()


def test_an_override_that_is_gone_is_refused_though_the_name_is_inherited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(redis.QoS, "append")
    assert redis.QoS.append is virtual.QoS.append
    with pytest.raises(ConfigError, match=r"there is no kombu\.transport\.redis:QoS\.append\."):
        mends.require()


def test_an_installation_without_the_script_of_the_pop_refuses_to_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(redis.Transport, "Channel", redis.Channel)
    monkeypatch.setattr(redis.SentinelTransport, "Channel", redis.SentinelChannel)
    monkeypatch.setattr(scripts, "_LUA", tmp_path)
    scripts.declaration.cache_clear()
    scripts.source.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"pop\.lua"):
        redelivery.install()
    assert redis.Transport.Channel is redis.Channel
