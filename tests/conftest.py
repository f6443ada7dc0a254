"""What holds for all tests."""

import hypothesis

# A machine that is busy with something else is no failure of the code under test.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")
