"""What has a name among the things that may be wrong.  Read in this order:

- ``hypotheses.py``: other definitions, and tables of them.
- ``conventions.py``: the table of those that libraries document.
- ``known_faults.py``: the table of known mistakes, and the search for the first fault's.
- ``subsets.py``: the part of a large candidate on which hypotheses are tried first.
- ``search.py``: which hypotheses, alone or in pairs, explain most.
- ``explain.py``: which conventions, however many, make a candidate right.
"""
