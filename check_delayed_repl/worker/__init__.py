"""Takes samples of replicas for ever.

One thread keeps time, one writes the history, and samples have threads of their own.
"""
