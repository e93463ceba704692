"""Tools for results: inspector, measurements, 3-D surface, figure, reuse."""
