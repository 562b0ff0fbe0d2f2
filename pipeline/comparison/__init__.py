"""Two models side by side: their outputs, and where inside they part."""
