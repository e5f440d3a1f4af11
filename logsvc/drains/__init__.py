"""An app's log forwarded to other places: what a drain is, where drains are kept, how they deliver."""
