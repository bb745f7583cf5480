"""A peer that cannot be set up says what is missing."""

import sys
from pathlib import Path

import pytest

from benchmarks.peers import postgresql
from benchmarks.peers.installation import npm_package
from benchmarks.peers.peer import Missing, counted, run


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave out what the machine that the tests run on has installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgresql, "_DEBIAN", tmp_path)


@pytest.mark.usefixtures("no_programs")
def test_a_machine_without_npm_says_what_to_install() -> None:
    with pytest.raises(Missing, match=r"there is no npm.*: install Node\.js"):
        npm_package("left-pad@1.3.0").__enter__()


@pytest.mark.usefixtures("no_programs")
def test_a_machine_without_postgresql_says_what_to_install() -> None:
    with pytest.raises(Missing, match=r"no PostgreSQL .*: install it \(Debian: postgresql\)"):
        postgresql.postgresql().__enter__()


@pytest.mark.usefixtures("no_programs")
def test_the_newest_postgresql_of_debian_is_found_without_the_path(
    tmp_path: Path,
) -> None:
    for version in ("9.6", "15", "14"):
        programs = tmp_path / version / "bin"
        programs.mkdir(parents=True)
        for name in ("initdb", "postgres", "pg_isready", "psql"):
            (programs / name).touch()
    assert postgresql.installed() == tmp_path / "15" / "bin"


def test_a_command_that_fails_says_what_is_missing_and_the_first_that_it_said() -> None:
    code = "import sys; sys.exit('no such package\\nsee the log')"
    with pytest.raises(Missing, match=r"^a package: no such package$"):
        run(sys.executable, "-c", code, missing="a package")


def test_jobs_are_counted_until_there_are_enough() -> None:
    found = iter([0, 1, 3])
    counted(3, lambda: next(found), every_seconds=0)
    assert list(found) == []
