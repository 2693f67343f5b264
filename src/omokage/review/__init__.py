"""`omokage faces review`: a page on which faces are kept or rejected by one key each."""
