"""The same on every Python: its tests, its compiled build, its wheel.

    places      where a Python is: on this machine, or in a folder with a Debian
    matrix      what is run there, and what of its output counts
    table       tests/PYTHONS.md of the results

It is apart from the test run: it takes hours.
"""
