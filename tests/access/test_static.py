"""Tokens from a file: only their hashes are in it, and it is taken whole or not at all."""

import pytest

from logsvc.access.static import StaticTokens, digest, mint
from logsvc.errors import FormatError

HASH = "sha256:" + "0" * 64


def test_a_token_that_was_made_is_found_by_its_hash() -> None:
    token, entry = mint("ci", "acme", ["logs:read"], ["shop", "blog"])
    other, second = mint("cd", "acme", ["logs:write"], [])
    assert token not in entry
    tokens = StaticTokens.parse(entry + second)
    grant = tokens.verify(token)
    assert grant is not None
    assert (grant.subject, grant.id, grant.tenant) == ("ci", "ci", "acme")
    assert (grant.apps, grant.scopes, grant.expires) == ({"shop", "blog"}, {"logs:read"}, None)
    assert grant.root == f"token:{digest(token)}"
    found = tokens.verify(other)
    assert found is not None
    assert found.apps is None
    for wrong in ("", token + "x", token[:-1], digest(token), "\udcff"):
        assert tokens.verify(wrong) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[token]", "not TOML"),
        ("tokens = []", "nothing else"),
        ("token = 7", "nothing else"),
        ("token = [7]", "no name"),
        (f'[[token]]\nhash = "{HASH}"', "no name"),
        ('[[token]]\nname = "ci"', "hash"),
        ('[[token]]\nname = "ci"\nhash = "sha256:0"\ntenant = "a"', "hash"),
        (f'[[token]]\nname = "ci"\nhash = "{HASH}"\ntenant = "a/b"', "tenant"),
        (f'[[token]]\nname = "ci"\nhash = "{HASH}"\ntenant = "a"\napps = "shop"', "apps"),
        (f'[[token]]\nname = "ci"\nhash = "{HASH}"\ntenant = "a"\napp = ["shop"]', "app means nothing"),
        (f'[[token]]\nname = "ci"\nhash = "{HASH}"\ntenant = "a"\nexpires = "soon"', "expires"),
        (f'[[token]]\nname = "ci"\nhash = "{HASH}"\ntenant = "a"\n' * 2, "same name"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(text: str, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        StaticTokens.parse(text)


def test_a_token_needs_names_and_scopes_that_exist() -> None:
    for arguments in (("a b", "acme", ["logs:read"], []), ("ci", "a/b", [], []), ("ci", "acme", ["all"], [])):
        with pytest.raises(FormatError):
            mint(*arguments)
