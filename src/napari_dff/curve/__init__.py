"""Focus curves: their noise, their peaks, and the focus volumes that contain them."""
