from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from envoy_filter.yaml import Commented, dump, plain

lines = st.text("ab1 :#-'\"\\{}[],&*!|>%@`~?", min_size=1, max_size=8).filter(lambda line: bool(line.strip()))
texts = st.text("ab \u00e9\u2028\x00\t", max_size=5) | lines | st.lists(lines, min_size=2, max_size=4).map("\n".join)
keys = st.sampled_from(["name", "cluster", "@type", "a b", "key_2"])
data: st.SearchStrategy[Any] = st.recursive(
    texts | st.integers() | st.booleans(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3),
        st.builds(Commented, lines, inner),
    ),
    max_leaves=12,
)


@given(st.dictionaries(keys, data, min_size=1))
def test_reads_back_as_the_same(value: dict[str, Any]) -> None:
    assert yaml.safe_load(dump(value)) == plain(value)


def test_looks_like_what_people_write() -> None:
    value = {"a": [Commented("why", {"b": 1, "c": {"d": "x"}}), "e"], "f": "one\n  two\n", "g": {}, "h": []}
    assert dump(value) == ('a:\n# why\n- b: 1\n  c:\n    d: "x"\n- "e"\nf: |2\n  one\n    two\ng: {}\nh: []\n')
