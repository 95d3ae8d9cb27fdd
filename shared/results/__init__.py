"""Documented results as data, records of measured runs, and the tables that put one beside the other.

`python -m shared.results` prints them; no number in a table is typed by hand.
"""
