"""Finds out which rights a user of Redis lacks (ACL), without changing anything.

Between MULTI and EXEC a server checks the user's rights for each command when it queues it, and
DISCARD forgets the commands. So every command that we, kombu and Celery use is queued as it is, and
none is ever run. A server without transactions would run them: a PING finds that out first.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoPermissionError, ResponseError

from worker.core import keys
from worker.core.contract import QUEUE

if TYPE_CHECKING:
    from redis import Redis

_TRANSACTION: Final = ("MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH")


@dataclass(frozen=True, slots=True)
class Need:
    """The commands that are used on some of a server's keys and channels.

    Args:
        commands: ``{}`` is the first of the keys, ``<>`` the first of the channels
        keys: for each pattern, one key that stands for all that it covers
        channels: the same for channels
    """

    commands: tuple[str, ...]
    keys: dict[str, str]
    channels: dict[str, str]


_ANYWHERE: Final = (
    "PING", "SELECT 0", "TIME", "SCRIPT LOAD return", "SCRIPT EXISTS 0",
    "EVALSHA 0 1 {}", "EVAL return 1 {}",
)  # fmt: skip

NEEDS: Final = {
    "state": Need(
        (
            *_ANYWHERE, "BLPOP {} 1", "DEL {}", "EXISTS {}", "EXPIRE {} 1", "GET {}",
            "HDEL {} a", "HEXISTS {} a", "HGET {} a", "HGETALL {}", "HINCRBY {} a 1",
            "HMGET {} a", "HSCAN {} 0", "HSET {} a b", "HSETNX {} a b", "INCR {}", "LLEN {}",
            "LPUSH {} a", "LRANGE {} 0 0", "LREM {} 0 a", "LTRIM {} 0 0", "RPOP {}", "RPUSH {} a",
            "SADD {} a", "SET {} a", "SMEMBERS {}", "SREM {} a", "SSCAN {} 0", "TTL {}",
            "XADD {} * a b",
            "XDEL {} 0-1", "XLEN {}", "XRANGE {} - +", "XREAD STREAMS {} 0", "XREVRANGE {} + -",
            "ZADD {} 0 a", "ZCARD {}", "ZRANGE {} 0 0", "ZRANGEBYSCORE {} 0 0", "ZREM {} a",
            "ZREMRANGEBYSCORE {} 0 0", "ZREVRANGE {} 0 0", "ZREVRANGEBYSCORE {} 0 0",
            "ZSCAN {} 0", "ZSCORE {} a",
        ),
        {"fermata:*": keys.HEALTH},
        {},
    ),
    "broker": Need(
        (
            *_ANYWHERE, "BLMOVE {} {} RIGHT RIGHT 1", "BRPOP {} 1", "DEL {}", "EXISTS {}",
            "GET {}", "HDEL {} a", "HGET {} a", "HSET {} a b", "LLEN {}", "LPUSH {} a",
            "PEXPIRE {} 1", "PSUBSCRIBE <>", "PUBLISH <> a", "PUNSUBSCRIBE <>", "RPOP {}",
            "RPUSH {} a", "SADD {} a", "SET {} a", "SMEMBERS {}", "SREM {} a", "SUBSCRIBE <>",
            "UNSUBSCRIBE <>", "ZADD {} 0 a", "ZRANGE {} 0 0", "ZREM {} a",
            "ZREVRANGEBYSCORE {} 0 0",
        ),
        {
            f"{QUEUE}*": QUEUE,
            "unacked*": "unacked_index",
            "_kombu.*": f"_kombu.binding.{QUEUE}",
            "*.celery.pidbox*": "0.reply.celery.pidbox",
        },
        {"*": "/0.celery.pidbox"},  # PSUBSCRIBE needs its very pattern allowed, or all channels
    ),
    "results": Need(
        (
            *_ANYWHERE, "DEL {}", "EXISTS {}", "EXPIRE {} 1", "GET {}", "INCR {}", "LLEN {}",
            "LRANGE {} 0 0", "MGET {}", "PUBLISH <> a", "RPUSH {} a", "SADD {} a", "SET {} a",
            "SETEX {} 1 a", "SISMEMBER {} a", "SUBSCRIBE <>", "UNSUBSCRIBE <>", "ZADD {} 0 a",
            "ZCOUNT {} 0 0", "ZRANGE {} 0 0",
        ),
        {
            "celery-task-meta-*": "celery-task-meta-0",
            "celery-taskset-meta-*": "celery-taskset-meta-0",
            "chord-unlock-*": "chord-unlock-0",
        },
        {"celery-task-meta-*": "celery-task-meta-0"},
    ),
}  # fmt: skip
"""The needs, by what a server holds."""


def missing(client: "Redis", held: Collection[str]) -> list[str]:
    """Name the rights that the client's user lacks, in the words of ACL SETUSER."""
    asked = [each for what in held for each in _questions(NEEDS[what])]
    try:
        answers = _judged(client, [command for command, _ in asked])
    except NoPermissionError:  # of MULTI itself: nothing else can be asked
        return [f"+{command.lower()}" for command in _TRANSACTION]
    except ResponseError:
        return []
    found = dict.fromkeys(
        _lacking(str(answer), pattern)
        for answer, (_, pattern) in zip(answers, asked, strict=True)
        if isinstance(answer, NoPermissionError)
    )
    # ACL SETUSER refuses a channel beside all channels.
    return [rule for rule in found if "&*" not in found or rule == "&*" or rule[0] != "&"]


def may_send(client: "Redis", queue: str) -> bool:
    """Say whether the client's user may put messages into a queue that is not Fermata's."""
    by_priority = f"{queue}\x06\x163"  # kombu has a list for each priority, and asks all lengths
    asked = [f"LPUSH {queue} a", f"LLEN {by_priority}"]
    try:
        return not any(isinstance(each, NoPermissionError) for each in _judged(client, asked))
    except ResponseError:
        return True  # if transactions are missing, ``missing`` says so


def _judged(client: "Redis", commands: Collection[str]) -> list[Any]:
    """Return the server's answers to commands that it queues, and then forgets.

    Raises ResponseError if the server has no transactions. kombu cannot work with it either.
    """
    pool = client.connection_pool
    connection: Any = pool.get_connection()
    try:
        begun, queued, _ = _ask(connection, ["MULTI", "PING", "DISCARD"])
        if isinstance(begun, ResponseError):
            raise begun
        if queued in {"PONG", b"PONG"}:
            raise ResponseError("it has no transactions")
        return _ask(connection, ["MULTI", *commands, "DISCARD"])[1:-1]
    finally:
        connection.disconnect()
        pool.release(connection)


def _ask(connection: Any, commands: Collection[str]) -> list[Any]:
    """Return the answer, or the error, to each command.

    All are written at once, and MULTI with them. redis-py may reconnect before it writes: a command
    that was written by itself would reach the new connection without its MULTI, and be run.
    """
    connection.send_packed_command(
        connection.pack_commands(command.split() for command in commands), check_health=False
    )
    return [_answer(connection) for _ in commands]


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _questions(need: Need) -> Iterator[tuple[str, str]]:
    """Yield each command, with the pattern that is missing if the command itself is allowed."""
    key_pattern, key = next(iter(need.keys.items()))
    channel_pattern, channel = next(iter(need.channels.items()), ("", ""))
    for command in need.commands:
        pattern = f"&{channel_pattern}" if "<>" in command else f"~{key_pattern}"
        yield command.replace("{}", key).replace("<>", channel), pattern
    for pattern, key in need.keys.items():
        yield f"DEL {key}", f"~{pattern}"


def _lacking(said: str, pattern: str) -> str:
    command = re.search(r"run the '([^']+)' command", said)
    return f"+{command[1]}" if command else pattern
