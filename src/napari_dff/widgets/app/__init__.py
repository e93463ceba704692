"""What all widgets share: layers, stacks, forms, background tasks, undo."""
