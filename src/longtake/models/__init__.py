"""The models: their cards, where their files come from, and how they are checked and loaded into memory."""
