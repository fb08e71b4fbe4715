"""Tools that work on whole stores: copying, exporting, importing, compacting.

They know sections, keys and values, not what the rows mean, so they work for every store.
"""
