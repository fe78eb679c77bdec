"""What the kernels stand on, without twins: the jit policy, the vector type, the sparse loops."""
