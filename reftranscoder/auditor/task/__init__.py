"""What is audited: a candidate, a definition, an arithmetic and the batch."""
