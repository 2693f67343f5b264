"""What the servers of Omokage share: the guard before every call, files of pages, listening."""
