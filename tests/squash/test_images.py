"""When two names mean the same image."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash.images import Reference, key, keys, repository, same

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("shop", "docker.io/library/shop:latest"),
        ("shop:1.2", "docker.io/library/shop:1.2"),
        ("docker.io/shop", "docker.io/library/shop:latest"),
        ("docker.io/library/shop:1.2", "docker.io/library/shop:1.2"),
        ("index.docker.io/library/shop", "docker.io/library/shop:latest"),
        ("demo/pricing", "docker.io/demo/pricing:latest"),
        ("demo/team/pricing:v1", "docker.io/demo/team/pricing:v1"),
        ("localhost/shop", "localhost/shop:latest"),
        ("localhost:5000/shop", "localhost:5000/shop:latest"),
        ("registry:5000/team/shop", "registry:5000/team/shop:latest"),
        ("registry:5000/team/shop:2", "registry:5000/team/shop:2"),
        ("Registry/shop", "Registry/shop:latest"),
        ("10.0.0.1/shop:a_B.c-d", "10.0.0.1/shop:a_B.c-d"),
        ("[fd00::1]:5000/shop:1", "[fd00::1]:5000/shop:1"),
        (f"shop@{DIGEST}", f"docker.io/library/shop@{DIGEST}"),
        (f"shop:1.2@{DIGEST}", f"docker.io/library/shop@{DIGEST}"),
        (f"registry:5000/team/shop@{DIGEST}", f"registry:5000/team/shop@{DIGEST}"),
        (f"docker-pullable://shop@{DIGEST}", f"docker.io/library/shop@{DIGEST}"),
        (DIGEST, DIGEST),
        (DIGEST.removeprefix("sha256:"), DIGEST),
        (f"docker://{DIGEST}", DIGEST),
        ("shop:5000", "docker.io/library/shop:5000"),
        ("x/a--b__c.d", "docker.io/x/a--b__c.d:latest"),
    ],
)
def test_names_in_full(name: str, whole: str) -> None:
    assert key(name) == whole


@pytest.mark.parametrize(
    "name",
    [
        *("", "Shop", "shop:", "shop@", "shop@sha256:12", "/shop", "shop/", "a//b", "-shop", "a b", "shop:tag:tag"),
        *("shöp", "a:-x", "host:99999x/shop", "a--b__c.d/e"),
    ],
)
def test_what_is_no_reference_stands_for_itself(name: str) -> None:
    assert Reference.parse(name) is None
    assert key(name) == name
    assert repository(name) == name
    assert same(name, name)
    assert not same(name, "shop")


def test_a_tag_is_not_another_and_not_any() -> None:
    assert not same("shop:1.2", "shop:1.3")
    assert not same("shop", "shop:1.3")
    assert same("shop", "docker.io/library/shop:latest")
    assert repository("shop:1.2") == repository("docker.io/library/shop@" + DIGEST)


def test_a_container_is_known_by_all_its_names() -> None:
    names = [f"shop@{DIGEST}", "shop:stable", OTHER]
    for wanted in ("shop:1.2", f"shop@{DIGEST}", f"shop:whatever@{DIGEST}", "shop:stable", OTHER, OTHER[7:]):
        assert same(wanted, "docker.io/library/shop:1.2", names), wanted
    for wanted in ("shop", f"shop@{OTHER}", f"other@{DIGEST}", DIGEST):
        assert not same(wanted, "docker.io/library/shop:1.2", names), wanted


def test_a_container_pinned_to_a_digest_still_has_its_tag() -> None:
    assert same("shop:1.2", f"shop:1.2@{DIGEST}")
    assert same(f"shop@{DIGEST}", f"shop:1.2@{DIGEST}")
    assert not same("shop", f"shop@{DIGEST}")


component = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
paths = st.lists(component, min_size=1, max_size=3).map("/".join)
domains = st.sampled_from(["localhost", "localhost:5000", "registry:5000", "ghcr.example", "a.b-c.example:80", "UP"])
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
digests = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")
repositories = st.builds("{}/{}".format, domains, paths)


@given(repositories, tags)
def test_whole_names_are_their_own_keys(name: str, tag: str) -> None:
    assert key(f"{name}:{tag}") == f"{name}:{tag}"
    assert repository(f"{name}:{tag}") == name


@given(repositories, tags, digests)
def test_a_digest_outweighs_the_tag(name: str, tag: str, digest: str) -> None:
    assert key(f"{name}:{tag}@{digest}") == key(f"{name}@{digest}") == f"{name}@{digest}"
    assert keys(f"{name}:{tag}@{digest}") == {f"{name}@{digest}", f"{name}:{tag}"}


@given(paths, tags)
def test_docker_hub_may_be_left_out(path: str, tag: str) -> None:
    library = path if "/" in path else f"library/{path}"
    first = path.partition("/")[0]
    if "/" in path and ("." in first or first == "localhost"):
        return  # that is a domain
    assert key(f"{path}:{tag}") == key(f"docker.io/{library}:{tag}") == key(f"index.docker.io/{library}:{tag}")


@given(st.text(max_size=40))
def test_a_key_is_its_own_key(text: str) -> None:
    once = key(text)
    assert key(once) == once


@given(st.text(max_size=40), st.text(max_size=40))
def test_same_is_symmetric_for_single_names(one: str, other: str) -> None:
    digest = re.compile(r"@")
    if not digest.search(one) and not digest.search(other):
        assert same(one, other) == same(other, one)


@given(repositories, tags, tags)
def test_different_tags_are_different(name: str, one: str, other: str) -> None:
    assert same(f"{name}:{one}", f"{name}:{other}") == (one == other)
