"""The list of tests that are left to the slow part."""

from tests.fixtures.dear import MISSING


def test_every_name_on_the_list_is_that_of_a_test(request):
    assert not request.config.stash[MISSING]
