"""Fuzzing without dependencies: a grammar, a mutator, and oracles that do not share our code.

`python -m tests.fuzz --seconds 60 --seed 7 --target forward -j 2`; see README.md here. Whatever a
run finds is saved under corpus/<target>/ and from then on is a regression test.
"""
