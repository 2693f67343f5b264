"""Pages: write arrays to files as pictures, figures, sheets and films. Nothing is computed here."""
