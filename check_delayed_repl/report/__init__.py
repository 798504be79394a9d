"""Verdicts into words. Decides nothing."""
