import os
import shutil

import pytest


@pytest.fixture(scope="session")
def program():
    """The command `trajformer`, of the same source: TRAJFORMER names it."""
    found = os.environ.get("TRAJFORMER") or shutil.which("trajformer")
    if not found:
        pytest.skip("TRAJFORMER does not name the command trajformer")
    return found
