"""Filters that Envoy has only for those requests, or answers, of which a predicate is true.

What a filter costs those that do not need it is mostly that it is there. So one composite filter stands for any number
of them, which it makes when the predicate has turned out true. Envoy's can do that since 1.37.
"""

from collections.abc import Sequence
from typing import Any

from squash.mark import BAGGAGE, MEMBER, PATTERN
from squash.result import MARK

from .yaml import Commented

TYPE = "type.googleapis.com/"
ANY_BYTES = r"\C"
"""What `.` is in Envoy's regular expressions for text that need not be UTF-8."""
BAGGAGE_MARKS = {"google_re2": {}, "regex": PATTERN.replace(".", ANY_BYTES)}
OVERWRITE = "OVERWRITE_IF_EXISTS_OR_ADD"
Predicate = dict[str, Any]
_HTTP = TYPE + "envoy.extensions.filters.http."


def filter_config(name: str, config_type: str, config: dict[str, Any]) -> dict[str, Any]:
    """A filter without a matcher. `config_type` without what all HTTP filters begin with."""
    return {"name": name, "typed_config": {"@type": _HTTP + config_type} | config}


MUTATION = "header_mutation.v3.HeaderMutation"


def put(header: str, value: str) -> dict[str, Any]:
    """A mutation: `header` has this value alone."""
    return {"append": {"header": {"key": header, "value": value}, "append_action": OVERWRITE}}


def where(predicate: Predicate, filters: Sequence[dict[str, Any]], comment: str = "") -> dict[str, Any]:
    """The filters, for whatever the predicate is true of, as one of the first one's name.

    An answer that another filter gives ahead of this one does not meet them.
    """
    chain = {"filter_chain": {"typed_config": list(filters)}}
    action = {"name": "make", "typed_config": {"@type": _HTTP + "composite.v3.ExecuteFilterAction"} | chain}
    composite = filter_config("envoy.filters.http.composite", "composite.v3.Composite", {})
    return _matched(filters[0]["name"], composite, predicate, action, comment)


def unless(predicate: Predicate, wrapped: dict[str, Any]) -> dict[str, Any]:
    """The filter, which is there for all, but skipped by whatever the predicate is true of."""
    return _matched(wrapped["name"], wrapped, predicate, _SKIP, "")


_SKIP = {
    "name": "skip",
    "typed_config": {"@type": TYPE + "envoy.extensions.filters.common.matcher.action.v3.SkipFilter"},
}


def _matched(
    name: str, extension: dict[str, Any], predicate: Predicate, action: dict[str, Any], comment: str
) -> dict[str, Any]:
    tree: Any = {"matcher_list": {"matchers": [{"predicate": predicate, "on_match": {"action": action}}]}}
    return {
        "name": name,
        "typed_config": {
            "@type": TYPE + "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
            "xds_matcher": Commented(comment, tree) if comment else tree,
            "extension_config": extension,
        },
    }


# -- predicates -------------------------------------------------------------------------------------

UNMARKED = f"Requests without the header {MARK} and without a member {MEMBER} of {BAGGAGE} do not have this."


def marked() -> Predicate:
    """Requests that bear the mark."""
    return either(_bears(MARK, {"google_re2": {}, "regex": ANY_BYTES + "*"}), _bears(BAGGAGE, BAGGAGE_MARKS))


def either(*predicates: Predicate) -> Predicate:
    return {"or_matcher": {"predicate": list(predicates)}}


def but_not(predicate: Predicate, other: Predicate) -> Predicate:
    return {"and_matcher": {"predicate": [predicate, {"not_matcher": other}]}}


def noted_true(name: str, key: str) -> Predicate:
    """Requests on which the filter of this name has noted `true` under the key."""
    metadata: dict[str, Any] = {
        "@type": TYPE + "envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput"
    }
    metadata |= {"filter": name, "path": [{"key": key}]}
    true: dict[str, Any] = {"@type": TYPE + "envoy.extensions.matching.input_matchers.metadata.v3.Metadata"}
    true |= {"value": {"string_match": {"exact": "true"}}}
    return {
        "single_predicate": {
            "input": {"name": "envoy.matching.inputs.dynamic_metadata", "typed_config": metadata},
            "custom_match": {"name": "envoy.matching.matchers.metadata_matcher", "typed_config": true},
        }
    }


def status_class(name: str) -> Predicate:
    """Answers whose status is of this class, as "5xx"."""
    kind = {"@type": TYPE + "envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput"}
    return _single("status", kind, {"exact": name})


def answer_bears(header: str, regex: str) -> Predicate:
    """Answers whose `header` is there and matches."""
    kind = {"@type": TYPE + "envoy.type.matcher.v3.HttpResponseHeaderMatchInput", "header_name": header}
    return _single(header, kind, {"safe_regex": {"google_re2": {}, "regex": regex}})


def _bears(header: str, regex: dict[str, Any]) -> Predicate:
    kind = {"@type": TYPE + "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": header}
    return _single(header, kind, {"safe_regex": regex})


def _single(name: str, kind: dict[str, Any], value: dict[str, Any]) -> Predicate:
    return {"single_predicate": {"input": {"name": name, "typed_config": kind}, "value_match": value}}
