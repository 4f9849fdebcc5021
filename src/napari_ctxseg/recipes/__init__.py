"""The papers' tables as recipes: data set, preparation, settings and printed value of every row. No torch here."""
