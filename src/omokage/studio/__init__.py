"""The studio: a web page on which a character designer finds a face. `omokage.studio.server` serves it."""
