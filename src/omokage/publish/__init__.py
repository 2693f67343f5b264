"""A trained model as a folder for others: a hub repository and a static site at once."""
