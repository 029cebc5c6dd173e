"""What a workshop is made of: notebooks, lessons, a demonstration, rehearsals, and what artists take home."""
