"""Who may read and write what, for how long, and how much of it."""
