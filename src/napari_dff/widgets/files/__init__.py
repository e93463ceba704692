"""The reader, the samples and the writers that the plugin contributes to napari."""
