"""The screen: which features of a row may be kept, found from 8-bit or float32 products."""
