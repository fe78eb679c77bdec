"""What the verdicts on stages leave out.  The five are independent of each other:

- ``fingerprint.py``: what arithmetic the errors of pre look like, whatever was declared.
- ``data_coverage.py``: what sort of rows the data lack, and what they could not show.
- ``exercised.py``: which features and columns the data exercised.
- ``non_finite_rows.py``: rows that hold NaN or infinity.
- ``exact_sums.py``: cases in which nothing is ever rounded.
"""
