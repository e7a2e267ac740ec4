"""The tests of this folder run in an AiiDA profile."""

import pytest


@pytest.fixture(scope='session', autouse=True)
def _profile(aiida_profile):
    """Load the profile of the session."""
