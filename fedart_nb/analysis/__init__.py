"""What came of a shared model: who gains and loses, how much of a style leaks, and mixing adapters."""
