"""Raw data to volumes and tables: the first room, with one door for every kind of input."""
