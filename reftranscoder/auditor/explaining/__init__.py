"""What has a name among the things that may be wrong.  Read in this order:

- ``subsets.py``: the part of a large candidate on which hypotheses are tried first.
- ``hypotheses.py``: other definitions, and tables of them.
- ``conditions.py``: in which problems one makes sense.
- ``conventions.py``: the table of those that libraries document.
- ``search.py``: which hypotheses, alone or in pairs, explain most.
- ``forward_faults.py``, ``gradient_faults.py``: tables of known mistakes.
- ``estimates.py``, ``evidence.py``: how often something counts, read from what a candidate gave.
- ``estimated_faults.py``: mistakes with such a number, or a format, in their names.
- ``selections.py``: mistaken selections.
- ``misplaced.py``: sums that look for features at other places than theirs.
- ``known_faults.py``: which of these mistakes the first fault is.
- ``explain.py``: which conventions, however many, make a candidate right.
"""
