"""What order by lane costs where there is no work: see `part`."""
