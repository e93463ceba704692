"""Many stacks: tasks, local and cluster executors, summary."""
