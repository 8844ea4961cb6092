"""The references are those of the code as it is."""

from pathlib import Path

import pytest

from docs.generate import PAGES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_make_docs_writes(page: str) -> None:
    assert (DOCS / page).read_text() == PAGES[page](), "run 'make docs'"
