"""Plumbing that no paper is about.

Without this file Python would prefer an installed package called utils, wherever it is.
"""
