"""Where pictures and their labels come from: folders, archives, lists, URLs, tables, names of files."""
