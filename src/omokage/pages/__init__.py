"""Pages: arrays in, file out. Pictures, figures, sheets, films; nothing is computed here."""
