"""Exercises, and their grader: see README.md.

Without this file Python would prefer an installed package called exercises, wherever it is.
"""
