"""What a person sees in napari: the only folder that imports Qt or napari."""
