import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envoy_filter.template import render
from squash.errors import SettingError
from squash.settings import TEMPLATE


def template(pod: str) -> str:
    return json.dumps({"spec": {"attachment": {"pod": pod}}})


def test_default_template() -> None:
    attachment = render(TEMPLATE, {"SQUASH_POD": "pricing-1", "SQUASH_NAMESPACE": "demo"})
    assert attachment.spec.attachment == {"pod": "pricing-1", "namespace": "demo"}
    assert attachment.spec.match_request is True


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_values_are_escaped(value: str) -> None:
    attachment = render(template("a {{ NAME }} and {{NAME}}"), {"NAME": value})
    assert attachment.spec.attachment == {"pod": f"a {value} and {value}"}


def test_value_that_is_not_utf8() -> None:
    assert render(template("{{ NAME }}"), {"NAME": "a\udcff"}).spec.attachment == {"pod": "a\ufffd"}


def test_missing_variable_is_empty_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert render(template("<{{ MISSING }}>"), {}).spec.attachment == {"pod": "<>"}
    [record] = caplog.records
    assert record.__dict__["fields"] == {"variable": "MISSING"}


def test_match_request_may_be_switched_off() -> None:
    assert render('{"spec": {"attachment": {}, "match_request": false}}', {}).spec.match_request is False


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"spec": {}}',
        '{"spec": {"attachment": "{{ NAME }}"}}',
        '{"spec": {"attachment": {}}',
    ],
)
def test_bad_templates_are_refused(bad: str) -> None:
    with pytest.raises(SettingError) as refused:
        render(bad, {"NAME": "value"})
    assert f"template = {bad!r} cannot be used" in refused.value.message
