"""Who may log in: the keepers of passwords, where they look, and those who ask them."""
