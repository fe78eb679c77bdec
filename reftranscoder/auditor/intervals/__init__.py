"""Every stage on intervals: float64 values with a bound on how far off each may be."""
