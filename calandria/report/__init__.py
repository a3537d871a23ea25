"""Tables, figures and the page that a study ends in."""
