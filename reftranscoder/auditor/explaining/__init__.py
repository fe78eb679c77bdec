"""What has a name among the things that may be wrong.  Read in this order:

- ``subsets.py``: the part of a large candidate on which hypotheses are tried first.
- ``hypotheses.py``: other definitions, and tables of them.
- ``conventions.py``: the table of those that libraries document.
- ``search.py``: which hypotheses, alone or in pairs, explain most.
- ``known_faults.py``: the table of known mistakes, and which of them the first fault is.
- ``explain.py``: which conventions, however many, make a candidate right.
"""
