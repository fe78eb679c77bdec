"""What the kernels stand on and what has no twin: the jit policy, the vector type, the sparse loops."""
