"""The pages made from the code say what the code says."""

import pytest

from scripts.docs import DOCS, pages

PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name], "it lags behind: run `make docs`"


def test_nothing_of_this_machine_gets_into_the_docs() -> None:
    assert not [name for name, text in PAGES.items() if str(DOCS.parent) in text or "/home/" in text or "/root" in text]
