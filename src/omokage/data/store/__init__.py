"""What a face set is: its files, its columns, how it is read, written, and brought to other machines."""
