"""Tables, figures and the page that a study ends in."""

VERSION = 4
