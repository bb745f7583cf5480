"""Tokens of the desk: every mistake at once, and nothing of the token in it."""

import pytest

from worker.core.visitors import Role, Visitor, read_token, wrong_tokens

SECRET = "k4JtXb0PZqv7LwY2cRn8sUe6hDf3aGm1"


def test_a_token_is_read() -> None:
    assert read_token(f"ada:operate:{SECRET}").visitor == Visitor("ada", Role.OPERATE)
    token = read_token(f"shop:enqueue@acme:{SECRET}:{SECRET}")
    assert token.visitor == Visitor("shop", Role.ENQUEUE, "acme")
    assert token.secret == f"{SECRET}:{SECRET}"
    assert SECRET not in repr(token)


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        (SECRET, 1),
        (f"ada:{SECRET}", 1),
        (f":operate:{SECRET}", 1),
        (f"a b:admin:{SECRET}", 2),
        (f"ada:read@:{SECRET}", 1),
        (f"ada:read@a b:{SECRET}", 1),
        (f"{SECRET}:{SECRET}:short", 2),
        (f"ada:read:{'ab' * 20}", 1),
        (f"ada:read:{SECRET} {SECRET}", 1),
        (f"ada:read:{SECRET}é", 1),
    ],
)
def test_every_mistake_of_a_token_is_named_without_it(text: str, mistakes: int) -> None:
    with pytest.raises(ValueError, match=r"it") as raised:
        read_token(text)
    said = str(raised.value)
    assert said.count("its ") == mistakes or (mistakes == 1 and "it must be" in said)
    assert SECRET not in said


def test_each_wrong_token_of_a_list_is_named_by_its_place() -> None:
    right = f"ada:read:{SECRET}"
    wrong = list(wrong_tokens([right, "x", f"ada:operate:{SECRET[::-1]}", f"bob:read:{SECRET}x"]))
    assert [each.partition(":")[0] for each in wrong] == ["Token 2", "Token 3"]
    assert wrong[1].endswith("its name is that of token 1.")


def test_two_tokens_with_one_secret_are_refused_without_it() -> None:
    [wrong] = wrong_tokens([f"ada:operate:{SECRET}", f"bob:read:{SECRET}"])
    assert wrong.startswith("Token 2: its secret is that of token 1")
    assert SECRET not in wrong


def test_a_role_may_do_what_the_one_before_it_may() -> None:
    assert [Visitor("x", Role.ENQUEUE).may(role) for role in Role] == [True, True, False]


def test_a_visitor_with_a_tenant_sees_it_alone() -> None:
    assert Visitor("x", Role.READ).sees("acme")
    assert Visitor("x", Role.READ, "acme").sees("acme")
    assert not Visitor("x", Role.READ, "acme").sees("default")
