"""The methods that SimSiam is compared with, one file each.

Without this file Python would prefer an installed package called baselines, wherever it is.
"""
