"""Takes samples of replicas for ever.

Each replica has a thread of its own, one writes the history, and one starts and ends them all.
"""
