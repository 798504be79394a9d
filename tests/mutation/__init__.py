"""Mutation testing of the judge: `tests/mutation/run` changes it in every small way and sees whether a test notices."""
