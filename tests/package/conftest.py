"""Hypothesis: found examples stay in the checkout's cache; a busy machine is no reason to fail."""

import os
from pathlib import Path

from hypothesis import settings

os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(__file__).parents[2] / ".cache/hypothesis"))
settings.register_profile("package", deadline=None, print_blob=True)
settings.load_profile("package")
