"""Search: which weights may rest in fewer bits, measured through the integer simulator."""
