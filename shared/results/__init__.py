"""Documented results as data, records of measured runs, and the tables that put one beside the other."""
