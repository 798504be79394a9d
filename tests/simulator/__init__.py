"""A seeded simulator of delay lines whose truth is known, to measure how well alarms are raised.

Two questions are put to the judge:

* `rows`: does every kind of line get the verdict that is promised for it, within the promised time? Each row of that
  table is a family of random lines.
* `years`: over replica-years of ordinary nights and days with real incidents among them, how many pages are false, how
  many incidents are missed, how long does it take to detect one; and how do simpler rules fare on the same samples?

`python -m tests.simulator` prints both tables; every number of theirs can be had again from its seed.
"""
