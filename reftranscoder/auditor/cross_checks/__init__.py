"""What the verdicts on stages leave out.  The four are independent of each other:

- ``fingerprint.py``: what arithmetic the errors of pre look like, whatever was declared.
- ``data_coverage.py``: what the data did not exercise, or could not show.
- ``non_finite_rows.py``: rows that hold NaN or infinity.
- ``exact_sums.py``: cases in which nothing is ever rounded.
"""
