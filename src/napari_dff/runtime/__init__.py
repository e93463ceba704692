"""How work is executed: windows, threads, compiled kernels, progress, memory, lazy arrays."""
