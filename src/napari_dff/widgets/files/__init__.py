"""The reader, writers and samples that the plugin contributes to napari."""
