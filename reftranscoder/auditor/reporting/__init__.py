"""What an audit found, as somebody reads it.  Read in this order:

- ``report.py``: a result for every stage, and one sentence.
- ``exercised.py``: how many features and columns the data exercised.
- ``merged_report.py``: several reports on one implementation as one.
- ``html.py``: the report as a page.
- ``html_style.py``: how that page looks.
- ``histogram_svg.py``: the pictures in it.
"""
