"""The private node that the tests of this folder share."""

from collections.abc import Iterator

import pytest

from benchmarks.node import Node, NodeError


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    try:
        private = Node()
    except NodeError as error:
        pytest.fail(str(error), pytrace=False)
    with private:
        yield private
