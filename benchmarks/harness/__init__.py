"""What every benchmark uses: child processes, their cost, interleaved pairs, and the table."""
