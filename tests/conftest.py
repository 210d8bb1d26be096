"""One profile for all models: the same examples every time, enough of them to matter, few enough to run always."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "models",
    max_examples=150,
    stateful_step_count=60,
    deadline=None,  # a shared machine, and a debug build
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# For a hunt: other examples each time, and many of them.
settings.register_profile("hunt", settings.get_profile("models"), max_examples=5000, derandomize=False)
settings.load_profile(os.environ.get("ZR_MODELS", "models"))
