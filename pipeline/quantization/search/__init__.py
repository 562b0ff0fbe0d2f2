"""Mode ``auto``: make candidates, score and measure them, and take the fastest that is allowed."""
