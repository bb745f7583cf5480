"""Settings: every error at once, and never a secret."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from kombu.transport import TRANSPORT_ALIASES

from worker import settings
from worker.cli import doctor
from worker.core import broker_url
from worker.core.errors import ConfigError
from worker.settings import Role, Settings, load

ROOT = Path(__file__).parent.parent.parent
KEY = "k4JtXb0PZqv7LwY2cRn8sUe6hDf3aGm1"
OTHER_KEY = "Zr8wQm2Nf5xLc7Vb0TkYs3HdGj6Pa9Ue"
API_KEY = "sk_do_not_print_me"
PASSWORD = "swordfish"
SECRETS = (KEY, OTHER_KEY, API_KEY, PASSWORD)
COMPLETE = {
    "FERMATA_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:6379/0",
    "FERMATA_API_KEY": API_KEY,
    "FERMATA_PUBLIC_URL": "https://fermata.example",
    "FERMATA_SIGNING_KEYS": f"{KEY},{OTHER_KEY}",
}
# What these hold is a number of some kind.
NUMBERS = sorted(
    name
    for name in set(re.findall(r'"(FERMATA_\w+)"', (ROOT / "worker/settings.py").read_text()))
    if name.endswith(("_SECONDS", "_BYTES"))
)


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty environment in an empty folder."""
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(os.environ, clear=True):
        yield


def given(**environment: str | None) -> None:
    """Set a complete environment, with these variables changed, or (None) left out."""
    wanted = COMPLETE | environment
    os.environ.update({name: value for name, value in wanted.items() if value is not None})


def wrong(role: Role = Role.WORKER, /, **environment: str | None) -> set[str]:
    """Return the names that an error about this environment gives; no secret may be in it."""
    given(**environment)
    with pytest.raises(ConfigError) as raised:
        load(role)
    said = f"{raised.value} {raised.value!r} {raised.value.args} {raised.value.to_json()}"
    assert not any(secret in said for secret in SECRETS)
    return set(re.findall(r"^  (\w+):", str(raised.value), re.MULTILINE))


def test_a_complete_environment_is_read() -> None:
    given()
    read = load(Role.WORKER)
    assert read.api_key == API_KEY
    assert read.signing_keys == (KEY, OTHER_KEY)
    assert read.provider_url == settings.DEFAULT_PROVIDER_URL
    assert read.broker_url == read.result_backend == COMPLETE["FERMATA_REDIS_URL"]


def test_the_doctor_names_at_once_all_that_a_worker_lacks() -> None:
    with pytest.raises(ConfigError) as raised:
        doctor._settings()
    assert {*COMPLETE} <= {*raised.value.details["settings"]}
    os.environ["FERMATA_REDIS_URL"] = COMPLETE["FERMATA_REDIS_URL"]
    assert not doctor._settings().api_key  # a backend's machine has no key, and no need of one


SENTINEL = f"redis+sentinel://:{PASSWORD}@one:26379,two:26379/music/0"


def test_a_url_of_sentinels_is_the_brokers_and_the_result_backends_too() -> None:
    given(FERMATA_REDIS_URL=SENTINEL)
    read = load(Role.WORKER)
    assert read.broker_url == read.result_backend == SENTINEL


@pytest.mark.parametrize(
    "name", ["FERMATA_REDIS_URL", "FERMATA_BROKER_URL", "FERMATA_RESULT_BACKEND"]
)
def test_a_url_of_sentinels_names_its_service(name: str) -> None:
    assert wrong(**{name: f"redis+sentinel://:{PASSWORD}@one:26379,two:26379"}) == {name}


# -- missing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "missing"),
    [
        (Role.CLIENT, {"FERMATA_REDIS_URL"}),
        (Role.RECEIVER, {"FERMATA_REDIS_URL", "FERMATA_SIGNING_KEYS"}),
        (Role.WORKER, set(COMPLETE)),
    ],
)
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_missing_depends_on_the_role(
    role: Role, missing: set[str], value: str | None
) -> None:
    assert wrong(role, **dict.fromkeys(COMPLETE, value)) == missing


@pytest.mark.parametrize("role", Role)
def test_a_role_needs_no_more_than_its_own(role: Role) -> None:
    needed = {"FERMATA_REDIS_URL", *settings._REQUIRED[role]}
    given(**{name: None for name in COMPLETE if name not in needed})
    assert load(role).redis_url


def test_a_missing_redis_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="fermata dev"):
        load(Role.CLIENT)


# -- wrong ------------------------------------------------------------------------------------


def test_a_redis_that_is_given_and_wrong_is_not_called_missing() -> None:
    given(FERMATA_REDIS_URL="localhost")
    with pytest.raises(ConfigError, match="FERMATA_REDIS_URL: Must be a URL that starts with"):
        load(Role.CLIENT)


@pytest.mark.parametrize("broker", ["redis+socket:///run/redis/sock?virtual_host=0", "amqps://mq"])
def test_a_broker_may_be_any_that_celery_knows(broker: str) -> None:
    given(FERMATA_BROKER_URL=broker)
    assert load(Role.WORKER).broker_url == broker


@pytest.mark.parametrize(
    "broker", ["localhost", "ftp://localhost", "sentinel://one/0", "memory://", "amqp://x?ssl=1"]
)
def test_a_broker_must_be_one_that_celery_knows(broker: str) -> None:
    assert wrong(FERMATA_BROKER_URL=broker) == {"FERMATA_BROKER_URL"}


def test_the_brokers_that_are_known_are_those_of_kombu() -> None:
    assert set(TRANSPORT_ALIASES) == broker_url.TRANSPORTS


def test_every_wrong_setting_is_reported_at_once() -> None:
    named = wrong(
        FERMATA_API_KEY=None,
        FERMATA_PUBLIC_URL="http://fermata.example",
        FERMATA_SIGNING_KEYS=None,
        FERMATA_RETENTION_SECONDS="1",
        FERMATA_SWEEP_EVERY_SECONDS="soon",
        FERMATA_LOG_LEVEL="LOUD",
        FERMATA_LOG_FORMAT="xml",
    )
    assert named == {
        "FERMATA_API_KEY", "FERMATA_PUBLIC_URL", "FERMATA_SIGNING_KEYS", "FERMATA_LOG_FORMAT",
        "FERMATA_RETENTION_SECONDS", "FERMATA_SWEEP_EVERY_SECONDS", "FERMATA_LOG_LEVEL",
    }  # fmt: skip


def test_a_wrong_number_and_weak_keys_are_reported_together() -> None:
    named = wrong(
        FERMATA_SUBMIT_TIMEOUT_SECONDS="soon",
        FERMATA_SIGNING_KEYS="short",
        FERMATA_LOG_LEVEL="LOUD",
    )
    assert named == {"FERMATA_SUBMIT_TIMEOUT_SECONDS", "FERMATA_SIGNING_KEYS", "FERMATA_LOG_LEVEL"}


def test_risks_are_allowed_by_name_and_a_misspelt_one_is_wrong() -> None:
    given(FERMATA_ALLOW_RISKS="eviction, clock")
    assert load(Role.WORKER).allowed_risks == {"eviction", "clock"}
    assert wrong(FERMATA_ALLOW_RISKS="evicton") == {"FERMATA_ALLOW_RISKS"}
    given(FERMATA_ALLOW_RISKS="")
    assert not load(Role.WORKER).allowed_risks


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["soon", "-1", "0", "nan", "1e999"])
def test_a_number_that_is_none_or_not_positive_is_wrong(name: str, value: str) -> None:
    assert wrong(**{name: value}) == {name}


@pytest.mark.parametrize("seconds", ["59", str(366 * 86400 + 1)])
def test_retention_is_between_a_minute_and_a_year(seconds: str) -> None:
    assert wrong(FERMATA_RETENTION_SECONDS=seconds) == {"FERMATA_RETENTION_SECONDS"}


# -- misspelt ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role)
def test_a_misspelt_setting_is_wrong_and_the_right_one_is_named(role: Role) -> None:
    wrong_names = {"FERMATA_COLOUR": "red", "FERMATA_RESUME_SECONDS": "300"}
    given(FERMATA_SIGNING_KEY=KEY, FERMATA_LOG_LEVEL="LOUD", **wrong_names)
    with pytest.raises(ConfigError) as raised:
        load(role)
    said = str(raised.value)
    assert (
        "FERMATA_SIGNING_KEY: There is no such setting; did you mean FERMATA_SIGNING_KEYS?" in said
    )
    assert "FERMATA_COLOUR: There is no such setting; .env.example names them all." in said
    assert "FERMATA_RESUME_SECONDS: It is gone: " in said
    assert "FERMATA_LOG_LEVEL: Must be one of" in said
    assert KEY not in said


def test_a_misspelt_setting_in_a_dotenv_file_is_wrong_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FERMATA_IN_FLIHGT=5\n")
    assert wrong() == {"FERMATA_IN_FLIHGT"}


def test_a_misspelt_setting_is_wrong_before_fermata_dev_starts_anything() -> None:
    os.environ["FERMATA_DATADIR"] = "elsewhere"
    with pytest.raises(ConfigError, match=r"did you mean FERMATA_DATA_DIR\?"):
        settings.check()


def test_nothing_need_be_given_to_fermata_dev() -> None:
    settings.check()


@pytest.mark.parametrize(
    "name",
    ["FERMATA_HOST", "FERMATA_SERVICE_HOST", "FERMATA_SERVICE_PORT_HTTP", "FERMATA_PORT",
     "FERMATA_RECEIVER_SERVICE_PORT", "FERMATA_RECEIVER_PORT_8000_TCP_ADDR"],
)  # fmt: skip
def test_a_variable_of_the_procfile_or_of_kubernetes_is_not_misspelt(name: str) -> None:
    given(**{name: "tcp://10.0.0.1:8000"})
    load(Role.WORKER)


# -- URLs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FERMATA_PUBLIC_URL", "FERMATA_PROVIDER_URL"])
@pytest.mark.parametrize(
    "url",
    ["https://x.example", "https://x.example/base", "http://localhost:8000", "http://[::1]:1",
     "http://127.0.0.1:8000"],
)  # fmt: skip
def test_a_url_is_https_or_this_machine_itself(name: str, url: str) -> None:
    given(**{name: url})
    assert url in (load(Role.WORKER).public_url, load(Role.WORKER).provider_url)


@pytest.mark.parametrize("name", ["FERMATA_PUBLIC_URL", "FERMATA_PROVIDER_URL"])
@pytest.mark.parametrize(
    "url",
    ["http://x.example", "http://127.0.0.1.x.example", "http://localhost@x.example", "https://",
     "ftp://localhost", "x.example", "//x.example", "http://[::1", "https://[x]",
     "https://x.example/" + "a" * 1000],
)  # fmt: skip
def test_any_other_url_is_wrong(name: str, url: str) -> None:
    assert wrong(**{name: url}) == {name}


@pytest.mark.parametrize("name", ["FERMATA_PUBLIC_URL", "FERMATA_PROVIDER_URL"])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://x.example/?from=here", "Must end before the ?"),
        ("https://x.example/base?", "Must end before the ?"),
        ("https://x.example/#here", "Holds a #"),
        ("https://x.example/#", "Holds a #"),
        (f"https://me:{PASSWORD}@x.example", "Must name no user"),
        ("https://x.example/my base", "Holds a space"),
        ("https://a..b", "A port must be"),
        ("https://x.example:0", "from 1 to 65535"),
    ],
)
def test_a_url_that_a_path_cannot_be_put_after_is_wrong(name: str, url: str, said: str) -> None:
    assert wrong(**{name: url}) == {name}
    with pytest.raises(ConfigError, match=said):
        load(Role.WORKER)


@pytest.mark.parametrize("key", ["sk ключ", "sk_ключ", "sk_two\nlines"])
def test_an_api_key_that_no_header_can_hold_is_wrong(key: str) -> None:
    given(FERMATA_API_KEY=key)
    with pytest.raises(ConfigError, match=r"FERMATA_API_KEY: Character \d+ is U\+") as raised:
        load(Role.WORKER)
    assert key not in str(raised.value)


@pytest.mark.parametrize(
    "name", ["FERMATA_REDIS_URL", "FERMATA_BROKER_URL", "FERMATA_RESULT_BACKEND"]
)
@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"redis://:{PASSWORD}@h/abc", "must be a number"),
        (f"redis://:{PASSWORD}/1@h/0", "percent-encoded"),
        ("redis://h?socket_timeout=1", "FERMATA_REDIS_TIMEOUT_SECONDS"),
        ("rediss://h?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs names a file"),
    ],
)
def test_a_redis_that_nobody_could_reach_is_wrong(name: str, url: str, said: str) -> None:
    assert wrong(**{name: url}) == {name}
    with pytest.raises(ConfigError, match=f"{name}: .*{said}"):
        load(Role.WORKER)


@pytest.mark.parametrize(
    "url", ["rediss://h?ssl_cert_reqs=CERT_REQUIRED", "rediss://h", "unix:///run/redis.sock",
            "redis://h?db=3&health_check_interval=30", "redis://[::1]"],
)  # fmt: skip
def test_a_redis_may_be_written_in_any_librarys_way(url: str) -> None:
    given(FERMATA_REDIS_URL=url)
    read = load(Role.WORKER)
    assert read.broker_url == read.result_backend == url


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:6379", "redis://[", "amqp://x"])
def test_the_state_stands_in_redis_alone(url: str) -> None:
    assert wrong(FERMATA_REDIS_URL=url) == {"FERMATA_REDIS_URL"}


def test_a_webhook_url_of_the_longest_public_url_fits_the_provider() -> None:
    longest = "https://x.example/" + "a" * (1024 - 200 - 18)
    given(FERMATA_PUBLIC_URL=longest)
    url = f"{load(Role.WORKER).public_url}/webhooks/aimusic/{'j' * 128}"
    assert len(url) <= 1024


@pytest.mark.parametrize(
    "name", ["CELERY_BROKER_URL", "CELERY_BROKER_WRITE_URL", "CELERY_BROKER_READ_URL",
             "CELERY_RESULT_BACKEND"],
)  # fmt: skip
def test_a_variable_that_celery_lets_win_is_refused(name: str) -> None:
    assert wrong(**{name: f"redis://:{PASSWORD}@elsewhere/0"}) == {name}


@pytest.mark.parametrize("same", [COMPLETE["FERMATA_REDIS_URL"], f"redis://:{PASSWORD}@127.0.0.1"])
def test_celerys_own_variable_may_say_the_same(same: str) -> None:
    given(CELERY_BROKER_URL=same)
    assert load(Role.WORKER).broker_url == COMPLETE["FERMATA_REDIS_URL"]


# -- secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param("short", id="short"),
        pytest.param(KEY[:31], id="one character short"),
        pytest.param("a" * 64, id="one letter"),
        pytest.param("abababab" * 8, id="two letters"),
        pytest.param(f"{KEY},short", id="the second"),
        pytest.param(f"short,{KEY}", id="the first"),
        pytest.param(f"{KEY},", id="an empty second"),
        pytest.param(",", id="two empty"),
        pytest.param(f"{KEY},{'ab' * 20}", id="a repetitive second"),
    ],
)
def test_weak_keys_are_refused(keys: str) -> None:
    assert wrong(FERMATA_SIGNING_KEYS=keys) == {"FERMATA_SIGNING_KEYS"}


def test_an_error_about_a_weak_key_counts_it_and_does_not_print_it() -> None:
    given(FERMATA_SIGNING_KEYS=f"{KEY},hunter2hunter2")
    with pytest.raises(ConfigError, match="Key 2 is weak") as raised:
        load(Role.WORKER)
    assert "hunter2" not in str(raised.value)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    "keys", [f"{KEY}, {OTHER_KEY}", f" {KEY} ,{OTHER_KEY}\n"], ids=["after a comma", "around"]
)
def test_spaces_around_a_key_are_no_part_of_it(keys: str) -> None:
    given(FERMATA_SIGNING_KEYS=keys)
    assert load(Role.WORKER).signing_keys == (KEY, OTHER_KEY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FERMATA_API_KEY", API_KEY),
        ("FERMATA_SIGNING_KEYS", KEY),
        ("FERMATA_REDIS_URL", "redis://x"),
    ],
)
def test_a_secret_may_come_from_a_file(name: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(value + "\n")
    given(**{name: None, f"{name}_FILE": str(tmp_path / "secret")})
    read = load(Role.WORKER)
    assert value in (read.api_key, read.redis_url, *read.signing_keys)


@pytest.mark.parametrize("name", ["FERMATA_API_KEY", "FERMATA_SIGNING_KEYS", "FERMATA_REDIS_URL"])
def test_a_secret_file_that_is_not_there_is_a_wrong_setting(name: str) -> None:
    given(**{name: None, f"{name}_FILE": "/nowhere/secret"})
    with pytest.raises(ConfigError, match=f"{name}_FILE"):
        load(Role.WORKER)


def test_a_secret_file_that_is_no_text_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xff\xfe\x00")
    given(FERMATA_API_KEY=None, FERMATA_API_KEY_FILE=str(tmp_path / "secret"))
    with pytest.raises(ConfigError, match="FERMATA_API_KEY"):
        load(Role.WORKER)


def test_an_empty_secret_file_is_a_missing_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\n")
    assert wrong(FERMATA_API_KEY=None, FERMATA_API_KEY_FILE=str(tmp_path / "secret")) == {
        "FERMATA_API_KEY"
    }


def test_the_settings_do_not_show_a_secret() -> None:
    given(
        FERMATA_BROKER_URL=f"amqp://u:{PASSWORD}@x", FERMATA_RESULT_BACKEND=f"redis://:{PASSWORD}@x"
    )
    shown = repr(load(Role.WORKER))
    assert "fermata.example" in shown
    assert not any(secret in shown for secret in SECRETS)


# -- the archive ------------------------------------------------------------------------------


def test_the_archive_is_a_folder_beside_the_data_unless_told_otherwise(tmp_path: Path) -> None:
    given(FERMATA_DATA_DIR="my data")
    read = load(Role.WORKER).archive
    assert read.url == f"file://{tmp_path}/my data/archive"
    assert "suno.ai" in read.hosts
    assert read.max_bytes == 2 * 1024**3


def test_hosts_of_the_archive_are_read_as_names() -> None:
    given(FERMATA_ARCHIVE_HOSTS=" CDN.example.com , .files.example.com., . ,")
    assert load(Role.WORKER).archive.hosts == ("cdn.example.com", "files.example.com")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("URL", "/srv/music"),
        ("URL", "s3://"),
        ("URL", "https://files.example.com/"),
        ("URL", "../x://y"),
        ("TEMPLATE", "{job_id}/{artist}{ext}"),
        ("TEMPLATE", "{clip_id}{ext}"),
        ("TEMPLATE", "../{job_id}{ext}"),
        ("TEMPLATE", "{job_id"),
    ],
)
def test_an_archive_that_cannot_be_is_a_wrong_setting(name: str, value: str) -> None:
    assert wrong(**{f"FERMATA_ARCHIVE_{name}": value}) == {f"FERMATA_ARCHIVE_{name}"}


# -- files ------------------------------------------------------------------------------------


def test_a_dotenv_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    lines = [f"{name}={value}" for name, value in COMPLETE.items()]
    (tmp_path / ".env").write_text("\n".join([*lines, "FERMATA_LOG_LEVEL=DEBUG"]))
    os.environ["FERMATA_API_KEY"] = "sk_from_the_environment"
    read = load(Role.WORKER)
    assert (read.api_key, read.log_level) == ("sk_from_the_environment", "DEBUG")
    assert "FERMATA_LOG_LEVEL" not in os.environ


def dev_environment() -> None:
    path = settings.dev_environment(Path(".fermata"))
    path.parent.mkdir()
    path.write_text("".join(f"{name}={value}\n" for name, value in COMPLETE.items()))


def test_a_running_dev_tells_its_settings() -> None:
    dev_environment()
    assert load(Role.WORKER).api_key == API_KEY


def test_a_redis_of_ones_own_keeps_a_running_dev_out() -> None:
    dev_environment()
    os.environ["FERMATA_REDIS_URL"] = "redis://mine"
    read = load(Role.CLIENT)
    assert (read.redis_url, read.api_key) == ("redis://mine", "")


def in_the_code() -> set[str]:
    """Name every variable that the settings read."""
    return set(re.findall(r'"(FERMATA_[A-Z_]+)"', (ROOT / "worker/settings.py").read_text()))


def example() -> str:
    return (ROOT / ".env.example").read_text()


def test_the_example_names_every_variable_and_no_other() -> None:
    named = set(re.findall(r"^(?:# ?)?(FERMATA_[A-Z_]+)=", example(), re.MULTILINE))
    in_the_procfile = set(re.findall(r"FERMATA_[A-Z_]+", (ROOT / "Procfile").read_text()))
    named = {name for name in named if not name.endswith("_FILE")}
    assert named == in_the_code() | in_the_procfile


def test_the_example_offers_a_file_for_secrets_alone() -> None:
    files = set(re.findall(r"^(?:# ?)?(FERMATA_[A-Z_]+)_FILE=", example(), re.MULTILINE))
    assert files <= in_the_code()


def complete(line: str) -> str:
    """Fill what nobody but its owner can: a required variable that the example leaves empty."""
    name, _, value = line.lstrip("# ").partition("=")
    return line if name not in COMPLETE or value else f"{name}={COMPLETE[name]}"


@pytest.mark.parametrize("role", Role)
def test_the_example_loads(role: Role, tmp_path: Path) -> None:
    lines = [complete(line) for line in example().splitlines()]
    (tmp_path / ".env").write_text("\n".join(lines))
    missing = [n for n in COMPLETE if not any(line.startswith(f"{n}=") for line in lines)]
    os.environ.update({name: COMPLETE[name] for name in missing})
    assert isinstance(load(role), Settings)


@pytest.mark.parametrize("name", sorted(in_the_code()))
def test_what_the_example_shows_is_taken_when_it_is_switched_on(name: str, tmp_path: Path) -> None:
    line = next(
        each.lstrip("# ")
        for each in example().splitlines()
        if each.lstrip("# ").startswith(f"{name}=")
    )
    value = line.partition("=")[2]
    given(**({name: value} if value else {}))
    assert isinstance(load(Role.WORKER), Settings)


@pytest.mark.parametrize("weights", ["acme", "acme=", "acme=much", "acme=0", "acme=1,trial"])
def test_a_wrong_weight_is_named_beside_all_other_errors(weights: str) -> None:
    assert wrong(FERMATA_TENANT_WEIGHTS=weights, FERMATA_IN_FLIGHT="many") == {
        "FERMATA_TENANT_WEIGHTS", "FERMATA_IN_FLIGHT",
    }  # fmt: skip


def test_weights_are_read() -> None:
    given(FERMATA_TENANT_WEIGHTS="acme=3, trial=0.5")
    assert load(Role.WORKER).limits.weights == {"acme": 3, "trial": 0.5}


def test_who_may_be_told_is_a_name_or_an_inner_address_in_full() -> None:
    hosts = " Hooks.Example.com. ,http://10.0.0.5:8080,https://[::1]:9443, ,8.8.8.8"
    given(FERMATA_NOTIFY_HOSTS=hosts)
    notify = load(Role.DESK).notify
    assert notify.hosts == ("hooks.example.com", "8.8.8.8")
    assert [(each.scheme, each.host, each.port) for each in notify.inner] == [
        ("http", "10.0.0.5", 8080), ("https", "::1", 9443),
    ]  # fmt: skip
    assert notify.secret == b""


@pytest.mark.parametrize(
    "host",
    ["10.0.0.5", "::1", "a b", "http://hooks.example.com", "http://10.0.0.5/x", "ftp://10.0.0.5"],
)
def test_another_host_to_tell_is_refused(host: str) -> None:
    assert wrong(FERMATA_NOTIFY_HOSTS=host) == {"FERMATA_NOTIFY_HOSTS"}


@pytest.mark.parametrize("secret", ["x", "whsec_", "whsec_AAAA", "whsec_%%%", "A" * 44])
def test_a_secret_to_tell_by_is_one_of_standard_webhooks(secret: str) -> None:
    assert wrong(FERMATA_NOTIFY_SECRET=secret) == {"FERMATA_NOTIFY_SECRET"}
    given(FERMATA_NOTIFY_SECRET="whsec_" + "A" * 43 + "=")
    assert load(Role.WORKER).notify.secret == bytes(32)


@pytest.mark.parametrize("name", ["FERMATA_BROKER_URL", "FERMATA_RESULT_BACKEND"])
def test_what_is_meant_for_a_running_fermata_dev_goes_to_no_other_broker(name: str) -> None:
    dev_environment()
    os.environ[name] = "redis://127.0.0.1:1/0"
    with pytest.raises(ConfigError, match=name):
        load(Role.CLIENT)


def test_a_backends_own_tasks_go_to_celerys_default_queue_or_to_one_that_is_named() -> None:
    given()
    assert load(Role.CLIENT).follow_up_queue == "celery"
    given(FERMATA_FOLLOW_UP_QUEUE="shop.tasks")
    assert load(Role.CLIENT).follow_up_queue == "shop.tasks"


@pytest.mark.parametrize("name", ["shop,mail", "shop mail", "q" * 256])
def test_a_queue_for_them_is_one_name(name: str) -> None:
    assert wrong(FERMATA_FOLLOW_UP_QUEUE=name) == {"FERMATA_FOLLOW_UP_QUEUE"}


def test_the_tokens_of_the_desk_are_read_and_not_shown() -> None:
    given(FERMATA_DESK_TOKENS=f"ada:operate:{KEY}, shop:read@acme:{OTHER_KEY}")
    read = load(Role.DESK)
    assert [token.visitor.tenant for token in read.desk_tokens] == [None, "acme"]
    assert KEY not in repr(read)


def test_the_tokens_of_the_desk_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"ada:operate:{KEY}\n")
    given(FERMATA_DESK_TOKENS_FILE=str(tmp_path / "tokens"))
    assert load(Role.DESK).desk_tokens[0].secret == KEY


def test_every_wrong_token_of_the_desk_is_named_by_its_place() -> None:
    given(FERMATA_DESK_TOKENS=f"{KEY},ada:read:{KEY},ada:admin:{PASSWORD}")
    with pytest.raises(ConfigError) as raised:
        load(Role.DESK)
    assert "Token 1: " in str(raised.value)
    assert "Token 3: its role must be one of read, enqueue, operate, its secret" in str(
        raised.value
    )
    assert wrong(Role.DESK, FERMATA_DESK_TOKENS=KEY) == {"FERMATA_DESK_TOKENS"}


def test_the_names_of_the_desk_are_read_as_hosts() -> None:
    given(FERMATA_DESK_HOSTS=" Desk.example.com , .,")
    assert load(Role.DESK).desk_hosts == ("desk.example.com",)


def test_the_desk_is_looked_for_on_this_machine_or_where_it_is_said_to_be() -> None:
    given()
    assert load(Role.CLIENT).desk_url == "http://127.0.0.1:8002"
    given(FERMATA_DESK_URL="http://desk:8002/")
    assert load(Role.CLIENT).desk_url == "http://desk:8002/"


@pytest.mark.parametrize(
    "url",
    [
        "desk:8002",
        "ftp://desk",
        "http://",
        "http://[x",
        f"http://ada:{PASSWORD}@desk",
        "http://d?a",
    ],
)
def test_an_address_of_the_desk_is_a_url_without_user_and_query(url: str) -> None:
    assert wrong(FERMATA_DESK_URL=url) == {"FERMATA_DESK_URL"}
