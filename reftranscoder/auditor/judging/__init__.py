"""Whether each stage is right, given what it read.  Read in this order:

- ``verdict.py``: from errors and bounds to a verdict on one stage.
- ``comparison.py``: what a candidate gave beside what it ought to be.
- ``selection.py``: which selections of features are legal.
- ``mistaken_selection.py``: which ones another rule allows, an activation's or a mistake.
- ``selection_judge.py``: the candidate's own.
- ``own_gradients.py``: the gradients of thresholds and gates.
- ``judge.py``: stage after stage, block of rows after block of rows.
- ``intermediates.py``: what stages ought to be, kept from one definition to the next.
- ``known_results.py``: the same under many definitions, where only what differs is judged again.
"""
