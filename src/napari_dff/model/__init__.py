"""What the steps pass to each other: frozen, validated data without numerics."""
