"""The paper's tables and figures, and further studies, one file each.

Without this file Python would prefer an installed package called experiments, wherever it is.
"""
