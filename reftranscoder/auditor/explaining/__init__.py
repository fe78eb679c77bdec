"""Names for what is wrong: conventions that libraries document, and known mistakes."""
