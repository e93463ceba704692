"""Writers of images, results, meshes, tables and figures."""
